/** Archives (PACS): looking for a study there, fetching it, and how far the results have gone there. */

import type { Http } from "./http";

export interface Archive {
  name: string;
  is_default: boolean;
  can_search: boolean;
  sends_results: boolean;
}

export interface ArchiveQuestion {
  patient_id?: string;
  patient_name?: string;
  accession?: string;
  /** YYYY-MM-DD. */
  date?: string;
}

export interface ArchivedStudy {
  uid: string;
  patient_name: string;
  patient_id: string;
  date: string | null;
  description: string;
  accession: string;
  modalities: string[];
  series_count: number | null;
  /** Our id, when it is here already. */
  study: string | null;
}

export interface Pull {
  id: string;
  state: "queued" | "running" | "done" | "failed";
  /** Series. */
  done: number;
  total: number;
  study: string | null;
  error: ArchiveTrouble | null;
}

export interface ArchiveTrouble {
  code: string;
  message: string;
}

export interface ArchivedStudies {
  studies: ArchivedStudy[];
  /** False: the archive may have more. */
  is_complete: boolean;
}

export interface Delivery {
  id: string;
  server: string;
  /** seg, sr, key or pdf. */
  kind: string;
  state: "waiting" | "sent" | "failed";
  attempts: number;
  /** Why it failed, or what kept it the last time. */
  error: ArchiveTrouble | null;
  sent_at: string | null;
}

const ROOT = "/api/pacs/";

export class Archives {
  constructor(private readonly http: Http) {}

  /** Those that are in use. */
  async all(): Promise<Archive[]> {
    return (await this.http.get<{ servers: Archive[] }>(ROOT)).servers;
  }

  search(name: string, question: ArchiveQuestion, signal?: AbortSignal): Promise<ArchivedStudies> {
    const query = new URLSearchParams(Object.entries(question).filter(([, value]) => value !== ""));
    return this.http.get(`${at(name)}studies/?${query}`, signal);
  }

  /** Fetch a study; asking again while it is being fetched answers with the same pull. */
  pull(name: string, uid: string): Promise<Pull> {
    return this.http.post(`${at(name)}studies/${encodeURIComponent(uid)}/pull/`);
  }

  pulled(id: string, signal?: AbortSignal): Promise<Pull> {
    return this.http.get(`${ROOT}pulls/${encodeURIComponent(id)}/`, signal);
  }

  /** Send a job's objects, or those that failed once more. */
  async send(name: string, jobId: string): Promise<Delivery[]> {
    return (await this.http.post<{ deliveries: Delivery[] }>(`${at(name)}jobs/${encodeURIComponent(jobId)}/send/`))
      .deliveries;
  }

  async deliveries(jobId: string, signal?: AbortSignal): Promise<Delivery[]> {
    const path = `${ROOT}deliveries/?job=${encodeURIComponent(jobId)}`;
    return (await this.http.get<{ deliveries: Delivery[] }>(path, signal)).deliveries;
  }
}

const at = (name: string): string => `${ROOT}${encodeURIComponent(name)}/`;
