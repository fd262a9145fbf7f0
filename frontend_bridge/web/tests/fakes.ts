/** A WebSocket that a test drives by hand, and jobs to send through it. */

import type { Job } from "../src/client";

export class FakeSocket {
  static all: FakeSocket[] = [];
  static get latest(): FakeSocket {
    return FakeSocket.all[FakeSocket.all.length - 1];
  }

  binaryType = "";
  sent: Record<string, unknown>[] = [];
  isClosed = false;
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: string | ArrayBuffer }) => void) | null = null;
  onclose: ((event?: { code: number }) => void) | null = null;
  onerror: (() => void) | null = null;

  constructor(readonly url: string) {
    FakeSocket.all.push(this);
  }

  send(text: string): void {
    this.sent.push(JSON.parse(text) as Record<string, unknown>);
  }

  close(): void {
    this.isClosed = true;
  }

  opens(): void {
    this.onopen?.();
  }

  says(frame: Record<string, unknown>): void {
    this.onmessage?.({ data: JSON.stringify(frame) });
  }

  saysBytes(bytes: Uint8Array): void {
    this.onmessage?.({ data: bytes.slice().buffer });
  }

  drops(code = 1006): void {
    this.onclose?.({ code });
  }

  subs(): Record<string, unknown>[] {
    return this.sent.filter((frame) => frame["t"] === "sub");
  }
}

export const asWebSocket = FakeSocket as unknown as typeof WebSocket;

export function job(changes: Partial<Job> = {}): Job {
  return {
    id: "J1",
    state: "queued",
    route: "lab",
    stage: null,
    progress: 0,
    eta_seconds: null,
    queue_position: 1,
    waiting_reason: null,
    worker: null,
    model: null,
    model_version: null,
    attempt: 0,
    series_id: "S2",
    sequence_series_ids: ["S1", "S2", "S3", "S4"],
    created_at: "2026-11-01T10:00:00+00:00",
    started_at: null,
    finished_at: null,
    error: null,
    result: null,
    epoch: "e1",
    seq: 1,
    ...changes,
  };
}

export function finished(sha256: string): Job {
  return job({
    state: "succeeded",
    progress: 1,
    attempt: 1,
    seq: 5,
    finished_at: "2026-11-01T10:01:00+00:00",
    result: {
      mask_url: "/api/mri/segmentation/jobs/J1/mask.nii.gz",
      seg_url: null,
      report_url: null,
      sha256,
      volumes_ml: { WT: 1, TC: 1, ET: 1 },
    },
  });
}

/** A fetch that answers by path and remembers what was asked. */
export function fakeFetch(answers: Record<string, () => Response>): { fetch: typeof fetch; asked: string[] } {
  const asked: string[] = [];
  const call = (input: RequestInfo | URL, init?: RequestInit): Promise<Response> => {
    const path = String(input);
    asked.push(`${init?.method ?? "GET"} ${path}`);
    const answer = answers[path];
    return answer ? Promise.resolve(answer()) : Promise.reject(new TypeError("offline"));
  };
  return { fetch: call as typeof fetch, asked };
}
