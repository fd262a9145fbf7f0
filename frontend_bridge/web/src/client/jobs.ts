/** Following one job: its snapshot with progress merged in, the preview, and the mask however it comes. */

import { sha256Hex } from "./digest";
import { Follower, type NewsFrame } from "./follower";
import type { ErrorFrame, EventFrame, MaskBeginFrame, Snapshot, SubFrame } from "./frames";
import { MaskAssembly } from "./mask";
import { isOpen, type Job, type Preview } from "./types";

export interface JobListener {
  /** The job as it is now, after every change and every progress. */
  onJob(job: Job): void;
  onPreview?(preview: Preview): void;
  /** The gzip NIfTI label mask, digest checked; once. */
  onMask?(file: Uint8Array<ArrayBuffer>, job: Job): void;
  onTrouble?(trouble: { code: string; detail: string }): void;
}

/** What `GET …/jobs/{id}/events` answers: every change after `since`, in order. */
export interface LoggedEvents {
  epoch: string;
  seq: number;
  events: { seq: number; type: string; job: Job }[];
}

export interface JobSource {
  transmit(frame: SubFrame): boolean;
  /** Whether the socket is up, so that a mask may still come by it. */
  isLive(): boolean;
  fetchJob(id: string, signal?: AbortSignal): Promise<Job>;
  fetchEvents(id: string, since: number, waitSeconds: number, signal: AbortSignal): Promise<LoggedEvents>;
  fetchBytes(path: string): Promise<Uint8Array<ArrayBuffer>>;
}

/** How long the mask may take to begin on the socket before it is fetched from its URL. */
export const PUSH_GRACE_MS = 3_000;
/** How long the server may hold a question for the next change (LIMITS.long_poll_seconds). */
export const WAIT_S = 20;
/** How often the progress of a running job is asked for without a socket, and a mask that did not arrive. */
export const LOOK_MS = 5_000;
const EMPTY_MS = 1_000;

export class JobFollower extends Follower {
  job: Job | null = null;
  private hasMask = false;
  private assembly: MaskAssembly | null = null;
  private grace: ReturnType<typeof setTimeout> | undefined;
  private isStopped = false;

  constructor(
    readonly jobId: string,
    private readonly listener: JobListener,
    private readonly source: JobSource,
  ) {
    super(`job:${jobId}`, (frame) => source.transmit(frame));
  }

  stop(): void {
    this.isStopped = true;
    clearTimeout(this.grace);
  }

  /** Every change in order, as on the socket: the server holds the question until there is one. */
  override async poll(signal: AbortSignal): Promise<number | null> {
    if (this.epoch === null || !this.job) {
      this.start(await this.source.fetchJob(this.jobId, signal));
      return 0;
    }
    if (!isOpen(this.job)) {
      await this.fetchMask();
      return LOOK_MS;
    }
    const { epoch, events } = await this.source.fetchEvents(this.jobId, this.seq, WAIT_S, signal);
    if (this.isStopped || signal.aborted) return null;
    if (epoch !== this.epoch) this.epoch = null;
    else for (const event of events) if (!this.takeLogged(event.seq, event.job)) break;
    // A proxy may answer at once what the server would have held.
    return events.length > 0 || this.epoch === null ? 0 : EMPTY_MS;
  }

  /**
   * How far it is, between two changes; false when there is nothing to ask. A snapshot that is ahead of the log is
   * left: the log brings every step.
   */
  async look(signal: AbortSignal): Promise<boolean> {
    if (!this.job || !isOpen(this.job)) return false;
    const now = await this.source.fetchJob(this.jobId, signal);
    if (!this.isStopped && !signal.aborted && now.epoch === this.epoch && now.seq === this.seq) this.show(now);
    return true;
  }

  private start(job: Job): void {
    if (this.isStopped) return;
    this.epoch = job.epoch;
    this.seq = job.seq;
    this.show(job);
  }

  /** False after a gap: then the snapshot is the only truth. */
  private takeLogged(seq: number, job: Job): boolean {
    if (seq <= this.seq) return true;
    if (seq > this.seq + 1) {
      this.epoch = null;
      return false;
    }
    this.seq = seq;
    this.show(job);
    return true;
  }

  takeMaskBegin(frame: MaskBeginFrame): void {
    clearTimeout(this.grace);
    this.assembly = new MaskAssembly(frame);
  }

  takeMaskPart(part: ArrayBuffer): void {
    this.assembly?.add(part);
  }

  async takeMaskEnd(): Promise<void> {
    const assembly = this.assembly;
    this.assembly = null;
    const file = await assembly?.finish();
    if (file) this.deliver(file);
    else await this.fetchMask();
  }

  protected override wantsMask(): boolean {
    return !this.hasMask && this.listener.onMask !== undefined;
  }

  protected onSnapshot(snapshot: Snapshot): void {
    this.show(snapshot as Job);
  }

  protected onEvent(frame: EventFrame): void {
    this.show(frame.job as Job);
  }

  protected onNews(frame: NewsFrame): void {
    if (frame.t === "preview") this.listener.onPreview?.(frame);
    if (frame.t !== "progress" || !this.job || !isOpen(this.job)) return;
    const { stage, progress, eta_seconds, queue_position } = frame;
    this.job = {
      ...this.job,
      stage: stage ?? this.job.stage,
      progress: Math.max(this.job.progress, progress ?? 0),
      eta_seconds: eta_seconds ?? this.job.eta_seconds,
      queue_position: queue_position ?? (this.job.state === "queued" ? this.job.queue_position : null),
    };
    this.listener.onJob(this.job);
  }

  protected onTrouble(frame: ErrorFrame): void {
    this.listener.onTrouble?.({ code: frame.code, detail: frame.detail });
  }

  private show(job: Job): void {
    const before = this.job;
    const isSameAttempt = before?.attempt === job.attempt && job.state === "running";
    this.job = isSameAttempt ? { ...job, progress: Math.max(before?.progress ?? 0, job.progress) } : job;
    this.listener.onJob(this.job);
    if (job.result && this.wantsMask() && !this.assembly) {
      clearTimeout(this.grace);
      this.grace = setTimeout(() => void this.fetchMask(), this.source.isLive() ? PUSH_GRACE_MS : 0);
    }
  }

  private async fetchMask(): Promise<void> {
    const result = this.job?.result;
    if (!result || this.isStopped || !this.wantsMask()) return;
    try {
      const file = await this.source.fetchBytes(result.mask_url);
      if ((await sha256Hex(file)) === result.sha256) this.deliver(file);
      else this.listener.onTrouble?.({ code: "mask_damaged", detail: "The mask did not arrive intact." });
    } catch (error) {
      this.listener.onTrouble?.({ code: "mask_unreachable", detail: error instanceof Error ? error.message : "" });
    }
  }

  private deliver(file: Uint8Array<ArrayBuffer>): void {
    clearTimeout(this.grace);
    if (this.isStopped || this.hasMask || !this.job) return;
    this.hasMask = true;
    this.listener.onMask?.(file, this.job);
  }
}
