/** What the server says of jobs, studies and workers (contract.md). */

export type Sequence = "T1" | "T1CE" | "T2" | "FLAIR";
export const SEQUENCES: readonly Sequence[] = ["T1", "T1CE", "T2", "FLAIR"];

export type JobState = "queued" | "leased" | "running" | "succeeded" | "failed" | "cancelled";
export type Route = "lab" | "server";
export type Stage = "fetch" | "preprocess" | "inference" | "postprocess" | "upload";
export const STAGES: readonly Stage[] = ["fetch", "preprocess", "inference", "postprocess", "upload"];
export type WaitingReason = "no_worker" | "all_busy" | "model_missing";

export interface JobResult {
  mask_url: string;
  seg_url: string | null;
  report_url: string | null;
  /** Of the gzip NIfTI label mask. */
  sha256: string;
  volumes_ml: { WT: number; TC: number; ET: number };
  /** DICOM structured report, summary and key images; absent when the scans came as NIfTI. */
  sr_url?: string | null;
  pdf_url?: string | null;
  key_image_urls?: string[];
  change?: Change | null;
}

export type Region = "WT" | "TC" | "ET";
export const REGIONS: readonly Region[] = ["WT", "TC", "ET"];

export interface Grown {
  ml: number;
  /** Null where there was nothing before. */
  percent: number | null;
}

/** Against the earlier study's mask of `since`, an ISO day. */
export type Change = Partial<Record<Region, Grown | null>> & { since?: string | null };

/** The same in report.json, with what it was before, and what makes the comparison doubtful. */
export interface ReportedChange {
  since: string;
  regions: Partial<Record<Region, Grown & { before_ml?: number; after_ml?: number }>>;
  note?: string;
}

/** What report.json says beside the volumes; older reports have less. */
export interface Report {
  warnings?: string[];
  measurements?: Partial<Record<Region, Measures>>;
  alignment?: Aligned[];
  brain?: { method: string; volume_ml: number } | null;
  change?: ReportedChange | null;
}

export interface Measures {
  largest_axial_diameter_mm?: number | null;
  perpendicular_diameter_mm?: number | null;
  largest_diameter_mm?: number | null;
}

/** How a sequence came to lie on the reference: "none", "headers" or "rigid". */
export interface Aligned {
  sequence: Sequence;
  method: string;
  rotation_degrees: number;
  shift_mm: number;
  similarity: number | null;
}

export interface Job {
  id: string;
  state: JobState;
  route: Route;
  stage: Stage | null;
  /** 0 to 1 over the whole job. */
  progress: number;
  /** To the end of the job. */
  eta_seconds: number | null;
  /** 1 is next. */
  queue_position: number | null;
  waiting_reason: WaitingReason | null;
  worker: string | null;
  model: string | null;
  model_version: string | null;
  attempt: number;
  series_id: string;
  sequence_series_ids: string[];
  sequences?: Sequence[];
  missing_sequences?: Sequence[];
  /** What was doubtful about the series when it was asked. */
  warnings?: string[];
  created_at: string;
  started_at: string | null;
  finished_at: string | null;
  error: { code: string; message: string } | null;
  result: JobResult | null;
  epoch: string;
  seq: number;
}

export interface Series {
  id: string;
  uid: string;
  description: string;
  sequence: Sequence | null;
  sequence_confidence: number;
  /** header, name, voxels or person; empty: nobody knows. */
  sequence_source?: string;
  sequence_reason?: string;
  shape: [number, number, number];
  spacing_mm: [number, number, number];
}

/** Which series the server would take for each sequence, by id. */
export interface Proposal {
  series: Record<Sequence, string | null>;
  missing: Sequence[];
  others: string[];
  warnings: string[];
}

export interface Study {
  id: string;
  uid?: string;
  patient_name?: string;
  patient_id?: string;
  study_date?: string | null;
  description?: string;
  source?: string;
  created_at?: string;
  series: Series[];
  proposal?: Proposal;
  set_aside?: SetAside[];
}

/** What was in the upload and is no scan: localizers, maps, reports. `files` of them look alike. */
export interface SetAside {
  filename: string;
  code: string;
  detail: string;
  files: number;
}

export interface Refused {
  filename: string;
  code: string;
  detail: string;
}

export interface UploadAnswer {
  studies: Study[];
  refused: Refused[];
  set_aside?: SetAside[];
}

export interface Worker {
  id: string;
  name: string;
  state: string;
  route: string;
  device: string;
  models: string[];
  slots: number;
  credits: number;
  jobs: { job: string; stage: Stage | null; progress: number }[];
  last_seen: string | null;
  rtt_ms: number | null;
  software: string;
  connected: boolean;
  /** "https": WebSocket is blocked on the way, so it asks over HTTPS. Empty: never connected. */
  transport: "" | "websocket" | "https";
  /** Finishes what it holds and takes nothing new. */
  draining: boolean;
  /** The administrator's words for it, and its own. */
  labels: string[];
}

/** Newest-only: how far a job is. Missing fields have not changed. */
export interface Progress {
  stage: Stage | null;
  progress: number | null;
  eta_seconds: number | null;
  queue_position: number | null;
}

/** Newest-only: the labels so far. Labels are uint8, C order (X, Y, Z); the affine goes by rows to RAS+ mm. */
export interface Preview {
  pseq: number;
  shape: [number, number, number];
  affine: number[];
  /** zlib-deflated, base64. */
  labels: string;
}

export const isOpen = (job: Job): boolean => job.finished_at === null && !FINAL.has(job.state);
const FINAL: ReadonlySet<JobState> = new Set<JobState>(["succeeded", "failed", "cancelled"]);
