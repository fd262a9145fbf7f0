/** Segwire's client library: framework-free. */

export { SegmentationClient } from "./client";
export type { ClientOptions, SegmentOptions, Watch } from "./client";
export type { StudyListener, WorkersListener } from "./lists";
export { ProblemError, UnreachableError } from "./http";
export type { JobListener } from "./jobs";
export type { LineState } from "./line";
export type { ByeFrame } from "./frames";
export type { UploadWatch } from "./uploads";
export type { Archive, ArchivedStudy, ArchiveQuestion, Archives, ArchiveTrouble, Delivery, Pull } from "./archives";
export * from "./types";
