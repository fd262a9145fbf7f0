/** Everything a page needs: studies and volumes over HTTP, requests, and live following over one WebSocket. */

import { Archives } from "./archives";
import { Fallback } from "./fallback";
import type { Follower } from "./follower";
import type { ByeFrame, ServerFrame } from "./frames";
import { Http, type HttpOptions } from "./http";
import { JobFollower, type JobListener, type JobSource } from "./jobs";
import { Line, SIGNED_OUT, browserPage, verdict, type LineState } from "./line";
import { StudyFollower, WorkersFollower, type StudyListener, type WorkersListener } from "./lists";
import type { Job, JobResult, Report, Sequence, Series, Study, UploadAnswer } from "./types";
import { uploadFiles, type UploadWatch } from "./uploads";

const JOBS = "/api/mri/segmentation/jobs/";
/** How many connections in a row may fail before the log is asked for over HTTP; one where none ever came up. */
const FAILURES_BEFORE_FALLBACK = 2;

export interface ClientOptions extends HttpOptions {
  socketUrl?: string;
  WebSocket?: typeof WebSocket;
  random?: () => number;
  /** For a viewer on another page: fetches the ticket of each connection. With `apiToken` that is done by itself. */
  ticket?: () => Promise<string>;
  /** `isSlow`: there is no live connection, and the changes come by requests. */
  onConnection?: (state: LineState, bye: ByeFrame | null, isSlow: boolean) => void;
}

export interface SegmentOptions {
  sequenceSeriesIds: string[];
  useLocal?: boolean;
  model?: string;
  priority?: "urgent" | "routine" | "batch";
  idempotencyKey?: string;
}

export interface Watch {
  close(): void;
}

export class SegmentationClient {
  readonly http: Http;
  readonly archives: Archives;
  private readonly line: Line;
  private readonly followers = new Map<string, Follower>();
  private receiving: JobFollower | null = null;
  private readonly fallback: Fallback;
  private bye: ByeFrame | null = null;

  constructor(private readonly options: ClientOptions = {}) {
    this.http = new Http(options);
    this.archives = new Archives(this.http);
    this.fallback = new Fallback(
      () => this.followers.values(),
      () => this.tell(),
      (reason) => this.line.end(verdict(SIGNED_OUT, reason)),
    );
    this.line = new Line({
      url: options.socketUrl ?? socketUrl(this.http.baseUrl),
      WebSocket: options.WebSocket,
      random: options.random,
      ticket: options.ticket ?? (options.apiToken ? () => this.ticket() : undefined),
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

  /** What a person says a series is; null: none of the four. */
  correct(seriesId: string, sequence: Sequence | null): Promise<Series> {
    return this.http.patch(`/api/mri/series/${encodeURIComponent(seriesId)}/`, { sequence });
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

  job(id: string, signal?: AbortSignal): Promise<Job> {
    return this.http.get(`${JOBS}${encodeURIComponent(id)}/`, signal);
  }

  /** What report.json says of a finished job. */
  report(result: JobResult): Promise<Report | null> {
    return result.report_url ? this.http.get<Report>(result.report_url) : Promise.resolve(null);
  }

  /** A ticket for one socket: single use, good for half a minute. */
  async ticket(): Promise<string> {
    return (await this.http.post<{ ticket: string }>("/api/ws-ticket/")).ticket;
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
      isLive: () => this.line.state === "open",
      fetchJob: (jobId, signal) => this.job(jobId, signal),
      fetchEvents: (jobId, since, wait, signal) =>
        this.http.get(`${JOBS}${encodeURIComponent(jobId)}/events?since=${since}&wait=${wait}`, signal),
      fetchBytes: (path) => this.http.bytes(path),
    };
    const follower = new JobFollower(id, listener, source);
    return this.follow(follower, () => follower.stop());
  }

  watchStudy(id: string, listener: StudyListener): Watch {
    const fetchJobs = (): Promise<Job[]> => this.jobs(id);
    return this.follow(new StudyFollower(id, listener, { transmit: (frame) => this.line.send(frame), fetchJobs }));
  }

  watchWorkers(listener: WorkersListener): Watch {
    return this.follow(new WorkersFollower(listener, (frame) => this.line.send(frame)));
  }

  close(): void {
    this.fallback.stop();
    this.followers.clear();
    this.line.close();
  }

  private follow(follower: Follower, onStop?: () => void): Watch {
    this.followers.set(follower.topic, follower);
    if (this.line.state === "open") follower.join();
    else this.line.open();
    this.fallback.pick();
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
    this.bye = bye;
    if (state !== "open") this.receiving = null;
    if (state === "open" || state === "closed") this.fallback.stop();
    else if (this.line.failures >= (this.line.hasOpened ? FAILURES_BEFORE_FALLBACK : 1)) this.fallback.start();
    this.tell();
  }

  private tell(): void {
    this.options.onConnection?.(this.line.state, this.bye, this.fallback.isReaching);
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
