/** Bringing files in: small ones in one request, everything else resumably, file by file, as one batch. */

import { Http, ProblemError, UnreachableError } from "./http";
import type { Refused, SetAside, Study, UploadAnswer } from "./types";

export interface UploadWatch {
  onProgress?(sent: number, total: number, phase: "sending" | "reading"): void;
  signal?: AbortSignal;
}

/** What one request may hold; the multipart frame around the files needs some room of its own. */
export const MULTIPART_BYTES = 8 * 1024 * 1024 - 256 * 1024;
export const MULTIPART_FILES = 200;
const CHUNK_BYTES = 4 * 1024 * 1024;
const PARALLEL = 3;
const POLL_MS = 500;
const RETRY_MS = [0, 500, 1_000, 3_000, 5_000, 10_000];

export async function uploadFiles(http: Http, files: readonly File[], watch: UploadWatch = {}): Promise<UploadAnswer> {
  const total = files.reduce((sum, file) => sum + file.size, 0);
  if (total <= MULTIPART_BYTES && files.length <= MULTIPART_FILES) return sendTogether(http, files, total, watch);
  return sendAsBatch(http, files, total, watch);
}

async function sendTogether(
  http: Http,
  files: readonly File[],
  total: number,
  watch: UploadWatch,
): Promise<UploadAnswer> {
  const form = new FormData();
  for (const file of files) form.append("files", file, file.name);
  watch.onProgress?.(0, total, "sending");
  const answer = await http.post<Partial<UploadAnswer>>("/api/mri/uploads/", form);
  watch.onProgress?.(total, total, "reading");
  return { studies: answer.studies ?? [], refused: answer.refused ?? [], set_aside: answer.set_aside ?? [] };
}

async function sendAsBatch(
  http: Http,
  files: readonly File[],
  total: number,
  watch: UploadWatch,
): Promise<UploadAnswer> {
  const { Upload, DetailedError } = await import("tus-js-client");
  const batch = newUuid();
  const sent = new Map<File, number>();
  const sendOne = (file: File): Promise<void> =>
    new Promise((resolve, reject) => {
      const upload = new Upload(file, {
        endpoint: `${http.baseUrl}/api/mri/uploads/tus/`,
        chunkSize: CHUNK_BYTES,
        retryDelays: RETRY_MS,
        storeFingerprintForResuming: false,
        headers: http.headers(),
        metadata: { filename: file.name, batch, batch_count: String(files.length) },
        onProgress: (bytes) => {
          sent.set(file, bytes);
          watch.onProgress?.(sumOf(sent), total, "sending");
        },
        onSuccess: () => resolve(),
        onError: (error) => reject(error instanceof DetailedError ? problemOfTus(error) : error),
      });
      watch.signal?.addEventListener("abort", () => {
        void upload.abort();
        reject(new DOMException("The upload was stopped.", "AbortError"));
      });
      upload.start();
    });
  await inParallel(files, sendOne);
  watch.onProgress?.(total, total, "reading");
  return readBatch(http, batch, watch.signal);
}

interface BatchAnswer {
  state: "receiving" | "ingesting" | "done" | "failed";
  studies: Study[];
  refused: Refused[];
  set_aside?: SetAside[];
}

async function readBatch(http: Http, batch: string, signal?: AbortSignal): Promise<UploadAnswer> {
  for (;;) {
    const answer = await http.get<BatchAnswer>(`/api/mri/uploads/batches/${batch}/`, signal);
    if (answer.state === "done") {
      return { studies: answer.studies, refused: answer.refused, set_aside: answer.set_aside ?? [] };
    }
    if (answer.state === "failed") {
      const detail = answer.refused.map((one) => `${one.filename}: ${one.detail}`).join(" ");
      throw new ProblemError(422, "nothing_readable", "No readable series", detail, { refused: answer.refused });
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

async function inParallel(files: readonly File[], sendOne: (file: File) => Promise<void>): Promise<void> {
  const waiting = [...files];
  const lane = async (): Promise<void> => {
    for (let file = waiting.shift(); file; file = waiting.shift()) await sendOne(file);
  };
  await Promise.all(Array.from({ length: Math.min(PARALLEL, files.length) }, lane));
}

interface TusFailure {
  message: string;
  originalResponse: { getStatus(): number; getBody(): string } | null;
}

function problemOfTus(error: TusFailure): Error {
  const response = error.originalResponse;
  if (!response) return new UnreachableError(error);
  let body: { code?: string; title?: string; detail?: string } = {};
  try {
    body = JSON.parse(response.getBody()) as typeof body;
  } catch {
    // A proxy's page; the status alone is told.
  }
  const status = response.getStatus();
  return new ProblemError(status, body.code ?? "", body.title ?? `HTTP ${status}`, body.detail ?? "");
}

const sumOf = (sent: Map<File, number>): number => [...sent.values()].reduce((sum, bytes) => sum + bytes, 0);

/** A random UUID; `crypto.randomUUID` exists only on https and localhost. */
export function newUuid(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}
