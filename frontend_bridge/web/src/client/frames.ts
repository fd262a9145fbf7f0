/** The frames of `/ws/segmentation/`, and reading them without trusting them. */

import type { Job, Preview, Progress, Worker } from "./types";

export type FrameId = string;

export interface SubFrame {
  t: "sub";
  topic: string;
  id: FrameId;
  epoch?: string;
  seq?: number;
  mask?: "push" | "url";
}

export type ClientFrame =
  | SubFrame
  | { t: "auth"; ticket: string }
  | { t: "unsub"; topic: string }
  | { t: "ping"; ts: number }
  | { t: "pong"; ts: number };

export type Snapshot = Job | { id: string; jobs: Job[] } | { workers: Worker[] };

export interface SubOkFrame {
  t: "sub.ok";
  id?: FrameId;
  topic: string;
  epoch: string;
  seq: number;
  recovered: boolean;
  snapshot: Snapshot;
}

export interface EventFrame {
  t: "event";
  id?: FrameId;
  topic: string;
  seq: number;
  type: string;
  job?: Job | string | null;
  series?: string | null;
  worker?: Worker | null;
}

export type ProgressFrame = { t: "progress"; id?: FrameId; topic: string } & Progress;
export type PreviewFrame = { t: "preview"; id?: FrameId; topic: string } & Preview;

export interface TelemetryFrame {
  t: "telemetry";
  id?: FrameId;
  topic: string;
  worker: Worker;
}

export interface MaskBeginFrame {
  t: "mask.begin";
  id?: FrameId;
  job: string;
  size: number;
  sha256: string;
  frames: number;
}

export interface MaskEndFrame {
  t: "mask.end";
  id?: FrameId;
  job: string;
}

export interface ErrorFrame {
  t: "error";
  id?: FrameId;
  topic?: string | null;
  code: string;
  detail: string;
}

export interface ByeFrame {
  t: "bye";
  code: number;
  reason: string;
  reconnect: boolean;
  retry_after_s: number;
}

export type ServerFrame =
  | SubOkFrame
  | EventFrame
  | ProgressFrame
  | PreviewFrame
  | TelemetryFrame
  | MaskBeginFrame
  | MaskEndFrame
  | ErrorFrame
  | ByeFrame
  | { t: "ping"; ts: number }
  | { t: "pong"; ts: number | null };

/** A frame, or null for what is not one. Unknown types pass and are ignored by whoever reads them. */
export function readFrame(text: string): ServerFrame | null {
  try {
    const frame: unknown = JSON.parse(text);
    return typeof frame === "object" && frame !== null && "t" in frame ? (frame as ServerFrame) : null;
  } catch {
    return null;
  }
}
