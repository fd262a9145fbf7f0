/** What the live table says. */

import type { Stage } from "../client";

interface Words {
  columns: readonly string[];
  none: string;
  live: string;
  lost: string;
  idle: string;
  free: (free: number, slots: number) => string;
  connected: string;
  away: string;
  draining: string;
  transports: Readonly<Record<string, string>>;
  fallbackWhy: string;
  states: Readonly<Record<string, string>>;
  routes: Readonly<Record<string, string>>;
  stages: Readonly<Record<Stage, string>>;
  ago: (seconds: number) => string;
}

const en: Words = {
  columns: ["Name", "Connection", "Route", "Device", "Models", "Free slots", "Current job", "Last seen", "Round trip"],
  none: "No worker is enrolled yet. Make a token with: python manage.py enrol_token NAME",
  live: "Live",
  lost: "Connection lost; trying again…",
  idle: "Idle",
  free: (free, slots) => `${free} of ${slots}`,
  connected: "Connected",
  away: "Not connected",
  draining: "Draining: no new jobs",
  transports: { websocket: "WebSocket", https: "HTTPS fall-back" },
  fallbackWhy: "A proxy on the way blocks WebSocket; the worker asks over HTTPS instead.",
  states: {
    pending: "Waiting for approval",
    active: "Active",
    suspended: "Suspended: no new jobs",
    revoked: "Revoked",
  },
  routes: { lab: "Lab PC", server: "This server" },
  stages: { fetch: "Fetch", preprocess: "Prepare", inference: "Analyse", postprocess: "Refine", upload: "Store" },
  ago: (seconds) =>
    seconds < 60
      ? `${seconds} s ago`
      : seconds < 5400
        ? `${Math.round(seconds / 60)} min ago`
        : `${Math.round(seconds / 3600)} h ago`,
};

const ko: Words = {
  columns: ["이름", "연결", "위치", "장치", "모델", "빈 슬롯", "현재 작업", "마지막 확인", "왕복 시간"],
  none: "등록된 워커가 없습니다. 토큰 만들기: python manage.py enrol_token NAME",
  live: "실시간",
  lost: "연결이 끊겼습니다. 다시 시도하는 중…",
  idle: "대기",
  free: (free, slots) => `${slots}개 중 ${free}개`,
  connected: "연결됨",
  away: "연결 안 됨",
  draining: "종료 준비 중: 새 작업 없음",
  transports: { websocket: "WebSocket", https: "HTTPS 대체 연결" },
  fallbackWhy: "중간 프록시가 WebSocket을 차단하여 워커가 HTTPS로 통신합니다.",
  states: { pending: "승인 대기 중", active: "사용 중", suspended: "일시 중지: 새 작업 없음", revoked: "해지됨" },
  routes: { lab: "연구실 PC", server: "이 서버" },
  stages: { fetch: "수신", preprocess: "전처리", inference: "추론", postprocess: "후처리", upload: "저장" },
  ago: (seconds) =>
    seconds < 60
      ? `${seconds}초 전`
      : seconds < 5400
        ? `${Math.round(seconds / 60)}분 전`
        : `${Math.round(seconds / 3600)}시간 전`,
};

export type AdminLanguage = "en" | "ko";
export const WORDS: Readonly<Record<AdminLanguage, Words>> = { en, ko };
