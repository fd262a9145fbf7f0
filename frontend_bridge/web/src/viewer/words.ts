/** What the page says, in English and Korean. `{name}` is filled in. */

const en = {
  studies: "Studies",
  search: "Search name, ID, date…",
  noStudies: "No studies yet. Add MRI files below.",
  noMatch: "No study matches.",
  seriesCount: "{count} series",
  addFiles: "Add files",
  addFolder: "Add folder",
  dropHere: "Drop DICOM, zip or NIfTI files here",
  sending: "Sending {sent} of {total} MB",
  reading: "Reading the files…",
  uploadDone: "Added {count} series.",
  uploadRefused: "{count} files were not read.",
  uploadStopped: "The upload was stopped.",
  chooseStudy: "Choose a study on the left, or add files.",
  unnamed: "No name",
  sequences: "Sequences",
  choose: "choose…",
  needFour: "Give each of the four sequences a series to start the analysis.",
  sameTwice: "Two sequences have the same series.",
  analyse: "AI analysis",
  analyseAgain: "Analyse again",
  route: "Computed on",
  routeDefault: "Site setting",
  routeLab: "Lab PC",
  routeServer: "This server",
  cancel: "Cancel",
  cancelling: "Cancelling…",
  queued: "Waiting",
  leased: "Handed to a worker",
  running: "Running",
  succeeded: "Finished",
  failed: "Failed",
  cancelled: "Cancelled",
  position: "Position {position} in the queue",
  no_worker: "No worker is connected. The analysis starts by itself when one is.",
  all_busy: "All workers are busy.",
  model_missing: "No connected worker has the model.",
  fetch: "Fetch",
  preprocess: "Prepare",
  inference: "Analyse",
  postprocess: "Refine",
  upload: "Store",
  eta: "about {time} left",
  took: "Took {time}",
  attempt: "Attempt {attempt}",
  results: "Result",
  earlier: "Analyses of this study",
  label1: "Necrotic core",
  label2: "Oedema",
  label3: "Enhancing tumour",
  WT: "Whole tumour",
  TC: "Tumour core",
  ET: "Enhancing tumour",
  nothingFound: "No tumour was found.",
  opacity: "Opacity",
  fill: "Fill",
  outline: "Outline",
  preliminary: "Preliminary: the analysis is still running.",
  showLesion: "Show lesion",
  maskFile: "NIfTI mask",
  segFile: "DICOM SEG",
  reportFile: "Report",
  axial: "Axial",
  coronal: "Coronal",
  sagittal: "Sagittal",
  crosshair: "Crosshair",
  windowing: "Window",
  resetWindow: "Reset window",
  smooth: "Smooth",
  slice: "Slice",
  enlarge: "Enlarge {name}",
  empty: "No {name} series",
  loading: "Loading {percent}",
  loadFailed: "This series cannot be shown. {reason}",
  offline: "Connection lost. Reconnecting…",
  slowMode: "Connection: slow mode",
  slowModeWhy: "This network blocks live connections. Results still arrive; progress is asked for every few seconds.",
  reload: "Reload",
  signedOut: "You are signed out.",
  signIn: "Sign in",
  signOut: "Sign out",
  unreachable: "The server cannot be reached. Check the network and try again.",
  failedStart: "The analysis could not be started. {reason}",
  disclaimer: "For research. Not for diagnosis or treatment.",
  admin: "Administration",
  keys: "Scroll: slice · drag: crosshair · right drag: window · double-click: enlarge",
  menu: "Studies",
  readings: "W {width}  L {level}",
} as const;

export type Key = keyof typeof en;

const ko: Record<Key, string> = {
  studies: "검사 목록",
  search: "이름, ID, 날짜 검색…",
  noStudies: "검사가 없습니다. 아래에서 MRI 파일을 추가하세요.",
  noMatch: "일치하는 검사가 없습니다.",
  seriesCount: "시리즈 {count}개",
  addFiles: "파일 추가",
  addFolder: "폴더 추가",
  dropHere: "DICOM, zip, NIfTI 파일을 여기에 놓으세요",
  sending: "전송 중 {sent} / {total} MB",
  reading: "파일을 읽는 중…",
  uploadDone: "시리즈 {count}개를 추가했습니다.",
  uploadRefused: "파일 {count}개를 읽지 못했습니다.",
  uploadStopped: "업로드를 중단했습니다.",
  chooseStudy: "왼쪽에서 검사를 선택하거나 파일을 추가하세요.",
  unnamed: "이름 없음",
  sequences: "시퀀스",
  choose: "선택…",
  needFour: "네 시퀀스에 시리즈를 하나씩 지정하면 분석을 시작할 수 있습니다.",
  sameTwice: "두 시퀀스에 같은 시리즈가 지정되었습니다.",
  analyse: "AI 분석",
  analyseAgain: "다시 분석",
  route: "분석 위치",
  routeDefault: "기본 설정",
  routeLab: "연구실 PC",
  routeServer: "이 서버",
  cancel: "취소",
  cancelling: "취소하는 중…",
  queued: "대기 중",
  leased: "워커에 전달됨",
  running: "분석 중",
  succeeded: "완료",
  failed: "실패",
  cancelled: "취소됨",
  position: "대기 순서 {position}번째",
  no_worker: "연결된 워커가 없습니다. 연결되면 자동으로 시작합니다.",
  all_busy: "모든 워커가 작업 중입니다.",
  model_missing: "연결된 워커에 해당 모델이 없습니다.",
  fetch: "수신",
  preprocess: "전처리",
  inference: "추론",
  postprocess: "후처리",
  upload: "저장",
  eta: "약 {time} 남음",
  took: "소요 시간 {time}",
  attempt: "{attempt}번째 시도",
  results: "결과",
  earlier: "이 검사의 분석 기록",
  label1: "괴사 중심부",
  label2: "부종",
  label3: "조영증강 종양",
  WT: "전체 종양",
  TC: "종양 핵심부",
  ET: "조영증강 종양",
  nothingFound: "종양이 발견되지 않았습니다.",
  opacity: "불투명도",
  fill: "채우기",
  outline: "윤곽선",
  preliminary: "미리 보기입니다. 분석이 아직 진행 중입니다.",
  showLesion: "병변으로 이동",
  maskFile: "NIfTI 마스크",
  segFile: "DICOM SEG",
  reportFile: "보고서",
  axial: "축상면",
  coronal: "관상면",
  sagittal: "시상면",
  crosshair: "십자선",
  windowing: "윈도우",
  resetWindow: "윈도우 초기화",
  smooth: "부드럽게",
  slice: "단면",
  enlarge: "{name} 크게 보기",
  empty: "{name} 시리즈 없음",
  loading: "불러오는 중 {percent}",
  loadFailed: "이 시리즈를 표시할 수 없습니다. {reason}",
  offline: "연결이 끊겼습니다. 다시 연결하는 중…",
  slowMode: "연결: 느린 모드",
  slowModeWhy: "이 네트워크에서 실시간 연결이 차단되어 있습니다. 결과는 그대로 도착하며, 진행 상황은 몇 초마다 확인합니다.",
  reload: "새로 고침",
  signedOut: "로그아웃되었습니다.",
  signIn: "로그인",
  signOut: "로그아웃",
  unreachable: "서버에 연결할 수 없습니다. 네트워크를 확인하고 다시 시도하세요.",
  failedStart: "분석을 시작하지 못했습니다. {reason}",
  disclaimer: "연구용입니다. 진단이나 치료에 사용할 수 없습니다.",
  admin: "관리",
  keys: "휠: 단면 · 드래그: 십자선 · 오른쪽 드래그: 윈도우 · 두 번 클릭: 확대",
  menu: "검사 목록",
  readings: "W {width}  L {level}",
};

export type Language = "en" | "ko";
export const WORDS: Record<Language, Record<Key, string>> = { en, ko };

type Values = Record<string, string | number>;

let language: Language = "en";
const heard = new Set<() => void>();

export const currentLanguage = (): Language => language;

export function t(key: Key, values: Values = {}): string {
  return WORDS[language][key].replace(/\{(\w+)\}/g, (_, name: string) => String(values[name] ?? ""));
}

/** Say `key` in this element, now and after every change of language. */
export function say<E extends Element>(element: E, key: Key, values?: Values): E {
  spoken.set(element, { key, values });
  element.setAttribute("data-say", key);
  element.textContent = t(key, values);
  return element;
}

/** The same for an attribute that is read or shown: a placeholder, a title, a label. */
export function sayIn<E extends Element>(element: E, attribute: string, key: Key, values?: Values): E {
  spokenIn.set(element, [
    ...(spokenIn.get(element) ?? []).filter((one) => one.attribute !== attribute),
    { attribute, key, values },
  ]);
  element.setAttribute("data-say-in", "");
  element.setAttribute(attribute, t(key, values));
  return element;
}

/** No longer translated. */
export function unsay(element: Element): void {
  element.removeAttribute("data-say");
}

export function speak(next: Language): void {
  language = next;
  document.documentElement.lang = next;
  for (const element of document.querySelectorAll("[data-say]")) {
    const line = spoken.get(element);
    if (line) element.textContent = t(line.key, line.values);
  }
  for (const element of document.querySelectorAll("[data-say-in]")) {
    for (const { attribute, key, values } of spokenIn.get(element) ?? [])
      element.setAttribute(attribute, t(key, values));
  }
  heard.forEach((listener) => listener());
}

export function onLanguage(listener: () => void): void {
  heard.add(listener);
}

const spoken = new WeakMap<Element, { key: Key; values?: Values }>();
const spokenIn = new WeakMap<Element, { attribute: string; key: Key; values?: Values }[]>();

/** Seconds as a person says them: 45 s, 2:05. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return language === "ko" ? `${whole}초` : `${whole} s`;
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}
