/** Segwire's dealings with the archive that OHIF shows: bringing a study in, and results back. */

import type { SegmentationClient, Study } from "../client";

export interface Pull {
  id: string;
  state: "queued" | "running" | "done" | "failed";
  done: number;
  total: number | null;
  study: string | null;
  error: string | null;
}

export interface Delivery {
  id: string;
  server: string;
  kind: string;
  state: "waiting" | "sent" | "failed";
  attempts: number;
  error: string | null;
  /** Of the object, where the server tells it. */
  sop_instance_uid?: string;
}

/** The archive has not given the study, and why. */
export class NotPulled extends Error {
  override name = "NotPulled";
}

/** The archive has not taken the result, and why. */
export class NotDelivered extends Error {
  override name = "NotDelivered";
}

export type Pause = (ms: number, signal: AbortSignal) => Promise<void>;
const LOOK_MS = 1_000;
/** How often nothing may be on its way before the result is sent by our own wish. */
const PATIENCE = 2;

export class Archive {
  constructor(
    private readonly client: SegmentationClient,
    private readonly name: string,
    private readonly pause: Pause = pauseOf,
  ) {}

  /** The study as Segwire has it, by its StudyInstanceUID. */
  async known(uid: string, signal: AbortSignal): Promise<Study | null> {
    const query = `/api/mri/studies/?uid=${encodeURIComponent(uid)}`;
    const { studies } = await this.client.http.get<{ studies: Study[] }>(query, signal);
    return studies[0] ?? null;
  }

  /** Bring the study in. Throws NotPulled, or a ProblemError when the archive is not known at all. */
  async pull(uid: string, onPull: (pull: Pull) => void, signal: AbortSignal): Promise<Study> {
    let pull = await this.client.http.post<Pull>(`${this.root}/studies/${encodeURIComponent(uid)}/pull/`);
    for (;;) {
      onPull(pull);
      if (pull.state === "failed") throw new NotPulled(pull.error ?? "");
      if (pull.state === "done") break;
      await this.pause(LOOK_MS, signal);
      pull = await this.client.http.get(`/api/pacs/pulls/${encodeURIComponent(pull.id)}/`, signal);
    }
    const study = pull.study ? await this.client.study(pull.study, signal) : await this.known(uid, signal);
    if (!study) throw new NotPulled(pull.error ?? "");
    return study;
  }

  send(jobId: string): Promise<{ deliveries: Delivery[] }> {
    return this.client.http.post(`${this.root}/jobs/${encodeURIComponent(jobId)}/send/`);
  }

  /** Wait until the archive has the segmentation of this job. Throws NotDelivered. */
  async delivered(jobId: string, onWait: (reason: string) => void, signal: AbortSignal): Promise<Delivery> {
    for (let looks = 0; ; looks++) {
      const seg = await this.deliveryOf(jobId, signal);
      if (seg?.state === "sent") return seg;
      if (seg?.state === "failed") throw new NotDelivered(seg.error ?? "");
      if (!seg && looks === PATIENCE) await this.send(jobId);
      onWait(seg?.error ?? "");
      await this.pause(LOOK_MS, signal);
    }
  }

  private async deliveryOf(jobId: string, signal: AbortSignal): Promise<Delivery | undefined> {
    const query = `/api/pacs/deliveries/?job=${encodeURIComponent(jobId)}`;
    const { deliveries } = await this.client.http.get<{ deliveries: Delivery[] }>(query, signal);
    const segs = deliveries.filter((one) => one.kind === "seg");
    return segs.find((one) => one.server === this.name) ?? segs[0];
  }

  private get root(): string {
    return `/api/pacs/${encodeURIComponent(this.name)}`;
  }
}

/** Sleep, or throw what the signal was aborted with. */
export function pauseOf(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = (): void => {
      clearTimeout(timer);
      reject(signal.reason as Error);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, ms);
    if (signal.aborted) stop();
    else signal.addEventListener("abort", stop, { once: true });
  });
}
