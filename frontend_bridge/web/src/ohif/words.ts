/** What the bridge says, in English and Korean; words that the viewer has too are the viewer's. */

import { WORDS, type Key as ViewerKey, type Language } from "../viewer/words";

const en = {
  tooltip: "Find the tumour in this study with Segwire",
  close: "Close",
  finding: "Looking for the study…",
  pulling: "Fetching the study from the archive…",
  pulled: "Fetching the study from the archive: {done} of {total}",
  delivering: "Storing the result in the archive…",
  archiveAway: "The archive does not answer; the result is sent as soon as it does. {reason}",
  notDelivered: "The archive did not take the result. {reason}",
  sendAgain: "Send again",
  showing: "Loading the segmentation…",
  shown: "The segmentation is shown.",
  stored: "The result is in the archive. Open the study again to see it.",
  openAgain: "Open again",
  noStudy: "Open a study first.",
  notPulled: "The study could not be fetched from the archive. {reason}",
  checkSequences: "Please check which series is which sequence.",
  noSuchSeries: "none",
  start: "Start",
  tryAgain: "Try again",
  needSignIn: "Sign in to Segwire, then try again.",
  openSignIn: "Sign in to Segwire",
  orToken: "or paste an API token for this window:",
  useToken: "Use token",
  tokenRefused: "Segwire does not know this token.",
  tooOld: "This OHIF version lacks {parts}.",
} as const;

type OwnKey = keyof typeof en;

const ko: Record<OwnKey, string> = {
  tooltip: "Segwire로 이 검사에서 종양을 찾습니다",
  close: "닫기",
  finding: "검사를 찾는 중…",
  pulling: "PACS에서 검사를 가져오는 중…",
  pulled: "PACS에서 검사를 가져오는 중: {done} / {total}",
  delivering: "결과를 PACS에 저장하는 중…",
  archiveAway: "PACS가 응답하지 않습니다. 응답하는 대로 결과를 보냅니다. {reason}",
  notDelivered: "PACS가 결과를 받지 않았습니다. {reason}",
  sendAgain: "다시 보내기",
  showing: "분할 결과를 불러오는 중…",
  shown: "분할 결과를 표시했습니다.",
  stored: "결과가 PACS에 저장되었습니다. 검사를 다시 열면 볼 수 있습니다.",
  openAgain: "다시 열기",
  noStudy: "먼저 검사를 여세요.",
  notPulled: "PACS에서 검사를 가져오지 못했습니다. {reason}",
  checkSequences: "각 시퀀스의 시리즈가 맞는지 확인하세요.",
  noSuchSeries: "없음",
  start: "시작",
  tryAgain: "다시 시도",
  needSignIn: "Segwire에 로그인한 다음 다시 시도하세요.",
  openSignIn: "Segwire에 로그인",
  orToken: "또는 이 창에서 쓸 API 토큰을 붙여 넣으세요:",
  useToken: "토큰 사용",
  tokenRefused: "Segwire가 모르는 토큰입니다.",
  tooOld: "이 OHIF 버전에는 {parts} 기능이 없습니다.",
};

export const OWN: Record<Language, Record<OwnKey, string>> = { en, ko };
export type Key = OwnKey | ViewerKey;
export type Say = (key: Key, values?: Record<string, string | number>) => string;

export function wordsIn(language: Language): Say {
  const words: Record<Key, string> = { ...WORDS[language], ...OWN[language] };
  return (key, values = {}) => words[key].replace(/\{(\w+)\}/g, (_, name: string) => String(values[name] ?? "")).trim();
}

/** OHIF keeps its language as i18next does: in the address, a cookie, the storage; else it is the browser's. */
export function languageOfOhif(): Language {
  const cookie = /(?:^|;\s*)i18next=([^;]+)/.exec(document.cookie)?.[1];
  const asked = new URLSearchParams(location.search).get("lng") ?? cookie ?? stored() ?? navigator.language;
  return asked.toLowerCase().startsWith("ko") ? "ko" : "en";
}

function stored(): string | null {
  try {
    return localStorage.getItem("i18nextLng");
  } catch {
    return null; // a browser that keeps nothing for this page
  }
}

/** Seconds as a person says them: 45 s, 2:05. */
export function durationIn(language: Language, seconds: number): string {
  const whole = Math.max(1, Math.round(seconds));
  if (whole < 60) return language === "ko" ? `${whole}초` : `${whole} s`;
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}
