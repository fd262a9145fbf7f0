/** Everything a page needs: studies and volumes over HTTP, requests, and live following over one WebSocket. */

import { Follower, type NewsFrame } from "./follower";
import type { ByeFrame, ErrorFrame, EventFrame, ServerFrame, Snapshot } from "./frames";
import { Http, type HttpOptions } from "./http";
import { JobFollower, type JobListener, type JobSource } from "./jobs";
import { Line, browserPage, type LineState } from "./line";
import type { Job, Study, Worker } from "./types";
import { uploadFiles, type UploadWatch } from "./uploads";
import type { UploadAnswer } from "./types";

const JOBS = "/api/mri/segmentation/jobs/";
/** How often a followed job is asked for over HTTP while the socket does not come up. */
export const FALLBACK_MS = 5_000;
const FAILURES_BEFORE_FALLBACK = 2;

export interface ClientOptions extends HttpOptions {
  socketUrl?: string;
  WebSocket?: typeof WebSocket;
  random?: () => number;
  onConnection?: (state: LineState, bye: ByeFrame | null) => void;
}

export interface SegmentOptions {
  sequenceSeriesIds: string[];
  useLocal?: boolean;
  model?: string;
  priority?: "urgent" | "routine" | "batch";
  idempotencyKey?: string;
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

export interface Watch {
  close(): void;
}

export class SegmentationClient {
  readonly http: Http;
  private readonly line: Line;
  private readonly followers = new Map<string, Follower>();
  private receiving: JobFollower | null = null;
  private fallback: ReturnType<typeof setInterval> | undefined;

  constructor(private readonly options: ClientOptions = {}) {
    this.http = new Http(options);
    this.line = new Line({
      url: options.socketUrl ?? socketUrl(this.http.baseUrl),
      WebSocket: options.WebSocket,
      random: options.random,
      page: typeof document === "undefined" ? undefined : browserPage,
      onState: (state, bye) => this.lineBecame(state, bye),
      onOpen: () => this.followers.forEach((follower) => follower.join()),
      onFrame: (frame) => this.take(frame),
      onBinary: (content) => this.receiving?.takeMaskPart(content),
    });
  }

  // ── over HTTP ──

  async studies(): Promise<Study[]> {
    return listOf<Study>(await this.http.get("/api/mri/studies/?limit=500"), "studies");
  }

  study(id: string, signal?: AbortSignal): Promise<Study> {
    return this.http.get(`/api/mri/studies/${encodeURIComponent(id)}/`, signal);
  }

  /** The series as gzip NIfTI on its stored grid. */
  volume(
    seriesId: string,
    onBytes?: (loaded: number, total: number | null) => void,
    signal?: AbortSignal,
  ): Promise<Uint8Array<ArrayBuffer>> {
    return this.http.bytes(`/api/mri/series/${encodeURIComponent(seriesId)}/volume.nii.gz`, onBytes, signal);
  }

  /** Ask for a segmentation on the grid of `seriesId`. Asking again while one is open answers with the same job. */
  request(seriesId: string, options: SegmentOptions): Promise<Job> {
    const query = options.useLocal === undefined ? "" : `?use_local=${options.useLocal}`;
    const headers = options.idempotencyKey ? { "Idempotency-Key": options.idempotencyKey } : undefined;
    const body: Record<string, unknown> = { sequence_series_ids: options.sequenceSeriesIds };
    if (options.model) body["model"] = options.model;
    if (options.priority) body["priority"] = options.priority;
    return this.http.post(
      `/api/mri/segmentation/series/${encodeURIComponent(seriesId)}/segment/${query}`,
      body,
      headers,
    );
  }

  /** The jobs of a study, newest first. */
  async jobs(studyId: string): Promise<Job[]> {
    return listOf<Job>(await this.http.get(`${JOBS}?study=${encodeURIComponent(studyId)}`), "jobs");
  }

  job(id: string): Promise<Job> {
    return this.http.get(`${JOBS}${encodeURIComponent(id)}/`);
  }

  cancel(id: string): Promise<Job> {
    return this.http.post(`${JOBS}${encodeURIComponent(id)}/cancel/`);
  }

  upload(files: readonly File[], watch?: UploadWatch): Promise<UploadAnswer> {
    return uploadFiles(this.http, files, watch);
  }

  // ── live ──

  watchJob(id: string, listener: JobListener): Watch {
    const source: JobSource = {
      transmit: (frame) => this.line.send(frame),
      fetchJob: (jobId) => this.job(jobId),
      fetchBytes: (path) => this.http.bytes(path),
    };
    const follower = new JobFollower(id, listener, source);
    return this.follow(follower, () => follower.stop());
  }

  watchStudy(id: string, listener: StudyListener): Watch {
    return this.follow(new StudyFollower(id, listener, (frame) => this.line.send(frame)));
  }

  watchWorkers(listener: WorkersListener): Watch {
    return this.follow(new WorkersFollower(listener, (frame) => this.line.send(frame)));
  }

  close(): void {
    clearInterval(this.fallback);
    this.followers.clear();
    this.line.close();
  }

  private follow(follower: Follower, onStop?: () => void): Watch {
    this.followers.set(follower.topic, follower);
    if (this.line.state === "open") follower.join();
    else this.line.open();
    return {
      close: () => {
        onStop?.();
        if (this.followers.get(follower.topic) !== follower) return;
        this.followers.delete(follower.topic);
        this.line.send({ t: "unsub", topic: follower.topic });
      },
    };
  }

  private take(frame: ServerFrame): void {
    if (frame.t === "mask.begin") {
      this.receiving = this.jobFollower(frame.job);
      this.receiving?.takeMaskBegin(frame);
    } else if (frame.t === "mask.end") {
      void this.jobFollower(frame.job)?.takeMaskEnd();
      this.receiving = null;
    } else if ("topic" in frame && frame.topic) {
      this.followers.get(frame.topic)?.take(frame);
    }
  }

  private jobFollower(id: string): JobFollower | null {
    const found = this.followers.get(`job:${id}`);
    return found instanceof JobFollower ? found : null;
  }

  private lineBecame(state: LineState, bye: ByeFrame | null): void {
    if (state !== "open") this.receiving = null;
    if (state === "open" || state === "closed") {
      clearInterval(this.fallback);
      this.fallback = undefined;
    } else if (this.fallback === undefined && this.line.failures >= FAILURES_BEFORE_FALLBACK) {
      this.fallback = setInterval(() => this.refreshJobs(), FALLBACK_MS);
      this.refreshJobs();
    }
    this.options.onConnection?.(state, bye);
  }

  private refreshJobs(): void {
    for (const follower of this.followers.values()) {
      // Offline is what the person is told already; the next try comes by itself.
      if (follower instanceof JobFollower) follower.refresh().catch(() => undefined);
    }
  }
}

class StudyFollower extends Follower {
  constructor(
    id: string,
    private readonly listener: StudyListener,
    transmit: (frame: Parameters<Line["send"]>[0]) => boolean,
  ) {
    super(`study:${id}`, transmit);
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

class WorkersFollower extends Follower {
  private workers: Worker[] = [];

  constructor(
    private readonly listener: WorkersListener,
    transmit: (frame: Parameters<Line["send"]>[0]) => boolean,
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

/** A list, whether it comes bare or under a name. */
function listOf<T>(answer: T[] | Record<string, T[]>, name: string): T[] {
  return Array.isArray(answer) ? answer : (answer[name] ?? []);
}

function socketUrl(baseUrl: string): string {
  const base = baseUrl || (typeof location === "undefined" ? "" : location.origin);
  return `${base.replace(/^http/, "ws")}/ws/segmentation/`;
}
