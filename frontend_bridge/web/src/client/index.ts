/** Segwire's client library: framework-free. */

export { SegmentationClient } from "./client";
export type { ClientOptions, SegmentOptions, StudyListener, Watch, WorkersListener } from "./client";
export { ProblemError, UnreachableError } from "./http";
export type { JobListener } from "./jobs";
export type { LineState } from "./line";
export type { ByeFrame } from "./frames";
export type { UploadWatch } from "./uploads";
export * from "./types";
