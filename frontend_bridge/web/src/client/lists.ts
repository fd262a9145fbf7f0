/** Following a study and the table of workers. */

import { Follower, type NewsFrame } from "./follower";
import type { ErrorFrame, EventFrame, Snapshot, SubFrame } from "./frames";
import type { Job, Worker } from "./types";

/** How often the jobs of a study are looked at without a socket. */
export const LIST_MS = 10_000;

export interface StudySource {
  transmit(frame: SubFrame): boolean;
  fetchJobs(): Promise<Job[]>;
}

export interface StudyListener {
  /** On every new connection: the study's jobs, newest first. */
  onJobs?(jobs: Job[]): void;
  /** Something was added, replaced or started; fetch again what is shown. */
  onChange(change: { type: string; series: string | null; job: string | null }): void;
  onTrouble?(trouble: { code: string; detail: string }): void;
}

export interface WorkersListener {
  onWorkers(workers: Worker[]): void;
  onTrouble?(trouble: { code: string; detail: string }): void;
}

export class StudyFollower extends Follower {
  private seen = "";

  constructor(
    id: string,
    private readonly listener: StudyListener,
    private readonly source: StudySource,
  ) {
    super(`study:${id}`, (frame) => source.transmit(frame));
  }

  /** There is no long-poll for a study: its jobs are looked at now and then, which also shows what else has changed. */
  override async poll(signal: AbortSignal): Promise<number | null> {
    const jobs = await this.source.fetchJobs();
    if (signal.aborted) return null;
    const seen = JSON.stringify(jobs.map((job) => [job.id, job.state]));
    if (seen !== this.seen) this.listener.onJobs?.(jobs);
    this.seen = seen;
    return LIST_MS;
  }

  protected onSnapshot(snapshot: Snapshot): void {
    if ("jobs" in snapshot) this.listener.onJobs?.(snapshot.jobs);
  }

  protected onEvent(frame: EventFrame): void {
    const job = typeof frame.job === "string" ? frame.job : null;
    this.listener.onChange({ type: frame.type, series: frame.series ?? null, job });
  }

  protected onNews(): void {}

  protected onTrouble(frame: ErrorFrame): void {
    this.listener.onTrouble?.(frame);
  }
}

export class WorkersFollower extends Follower {
  private workers: Worker[] = [];

  constructor(
    private readonly listener: WorkersListener,
    transmit: (frame: SubFrame) => boolean,
  ) {
    super("workers", transmit);
  }

  protected onSnapshot(snapshot: Snapshot): void {
    this.show("workers" in snapshot ? snapshot.workers : []);
  }

  protected onEvent(frame: EventFrame): void {
    if (frame.worker) this.replace(frame.worker);
  }

  protected onNews(frame: NewsFrame): void {
    if (frame.t === "telemetry") this.replace(frame.worker);
  }

  protected onTrouble(frame: ErrorFrame): void {
    this.listener.onTrouble?.(frame);
  }

  private replace(worker: Worker): void {
    const others = this.workers.filter((one) => one.id !== worker.id);
    this.show([...others, worker].sort((one, other) => one.name.localeCompare(other.name)));
  }

  private show(workers: Worker[]): void {
    this.workers = workers;
    this.listener.onWorkers(workers);
  }
}
