/** The archive that OHIF shows, as Segwire knows it: bringing a study in, and waiting for a result to be there. */

import type { Archives, Delivery, Pull, SegmentationClient, Study } from "../client";

/** The archive has not given the study, and why. */
export class NotPulled extends Error {
  override name = "NotPulled";
}

/** The archive has not taken the result, and why. */
export class NotDelivered extends Error {
  override name = "NotDelivered";
}

/** `sop_instance_uid` of the object, where the server tells it. */
export type Delivered = Delivery & { sop_instance_uid?: string };
export type Pause = (ms: number, signal: AbortSignal) => Promise<void>;
const LOOK_MS = 1_000;
/** How often nothing may be on its way before the result is sent because it was asked for here. */
const PATIENCE = 2;
const WHILE = 60;

export class Archive {
  private readonly http: SegmentationClient["http"];
  private readonly archives: Archives;

  constructor(
    private readonly client: SegmentationClient,
    private readonly name: string,
    private readonly pause: Pause = pauseOf,
  ) {
    this.http = client.http;
    this.archives = client.archives;
  }

  /** The study as Segwire has it, by its StudyInstanceUID. */
  async known(uid: string, signal: AbortSignal): Promise<Study | null> {
    const path = `/api/mri/studies/?uid=${encodeURIComponent(uid)}`;
    return (await this.http.get<{ studies: Study[] }>(path, signal)).studies[0] ?? null;
  }

  /** Bring the study in. Throws NotPulled, or a ProblemError when the archive may not be asked at all. */
  async pull(uid: string, onPull: (pull: Pull) => void, signal: AbortSignal): Promise<Study> {
    let pull = await this.archives.pull(this.name, uid);
    while (pull.state === "queued" || pull.state === "running") {
      onPull(pull);
      await this.pause(LOOK_MS, signal);
      pull = await this.archives.pulled(pull.id, signal);
    }
    if (pull.state === "failed") throw new NotPulled(sentenceIn(pull.error));
    const study = pull.study ? await this.client.study(pull.study, signal) : await this.known(uid, signal);
    if (!study) throw new NotPulled(sentenceIn(pull.error));
    return study;
  }

  send(jobId: string): Promise<unknown> {
    return this.archives.send(this.name, jobId);
  }

  /** Wait until the archive has the segmentation of this job. Throws NotDelivered. */
  async delivered(jobId: string, onWait: (reason: string) => void, signal: AbortSignal): Promise<Delivered> {
    for (let looks = 0; ; looks++) {
      const seg = await this.deliveryOf(jobId, signal);
      if (seg?.state === "sent") return seg;
      if (seg?.state === "failed") throw new NotDelivered(sentenceIn(seg.error));
      if (!seg && looks === PATIENCE) await this.send(jobId);
      onWait(sentenceIn(seg?.error));
      await this.pause(LOOK_MS, signal);
    }
  }

  /** Wait, for a while, until nothing of this job is on its way any more. */
  async settled(jobId: string, signal: AbortSignal): Promise<void> {
    for (let looks = 0; looks < WHILE; looks++) {
      const all = await this.archives.deliveries(jobId, signal);
      if (all.every((one) => one.state !== "waiting")) return;
      await this.pause(LOOK_MS, signal);
    }
  }

  private async deliveryOf(jobId: string, signal: AbortSignal): Promise<Delivered | undefined> {
    const all = await this.archives.deliveries(jobId, signal);
    return all.find((one) => one.kind === "seg" && one.server === this.name);
  }
}

/** The server's sentence, bare or beside a code. */
function sentenceIn(error: unknown): string {
  if (typeof error === "string") return error;
  const message = (error as { message?: unknown } | null | undefined)?.message;
  return typeof message === "string" ? message : "";
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
