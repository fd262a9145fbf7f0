/** From the click to the segmentation in the viewport, told to a view step by step. */

import { ProblemError, SEQUENCES } from "../client";
import type { Job, Pull, SegmentationClient, Sequence, Study } from "../client";
import { NotPulled, type Archive, type Delivered } from "./archive";
import type { DisplaySet } from "./host";

/** Which series, by id, stands for each sequence. */
export type Choice = Record<Sequence, string | null>;

export interface View {
  onStep(step: "finding" | "delivering" | "showing"): void;
  onPull(pull: Pull): void;
  onStudy(study: Study): void;
  onJob(job: Job): void;
  onArchiveAway(reason: string): void;
  /** Which series is which, where the server is not sure; null: the person wants nothing. */
  choose(study: Study, proposed: Choice, warnings: readonly string[]): Promise<Choice | null>;
}

/** What is needed of OHIF. */
export interface Viewer {
  missing(): string[];
  /** Whether this study is what is open now; another patient's may be. */
  hasOpen(studyUid: string): boolean;
  segmentationsOf(studyUid: string): DisplaySet[];
  refresh<T>(studyUid: string, isThere: () => T | null): Promise<T | null>;
  lookAgain(studyUid: string): Promise<void>;
  show(segmentation: DisplaySet): Promise<void>;
}

export interface Tools {
  client: SegmentationClient;
  archive: Archive;
  viewer: Viewer;
  view: View;
  signal: AbortSignal;
}

/** shown: in the viewport. stored: in the archive; the study has to be opened (again) to see it. */
export type Outcome = "shown" | "stored" | "cancelled";

/** The job ended without a mask; the message is the server's sentence. */
export class JobFailed extends Error {
  override name = "JobFailed";
}

/** Throws JobFailed, NotPulled, NotDelivered, and what the client throws. */
export async function analyse(studyUid: string, tools: Tools, onJobKnown: (job: Job) => void): Promise<Outcome> {
  tools.view.onStep("finding");
  const study = await bringIn(studyUid, tools);
  tools.view.onStudy(study);
  const choice = await settle(study, tools);
  const ids = choice && SEQUENCES.map((sequence) => choice[sequence]).filter((id) => id !== null);
  if (!choice || !ids?.length) return "cancelled";
  const job = await tools.client.request(choice.T1CE ?? ids[0], { sequenceSeriesIds: ids });
  onJobKnown(job);
  const ended = await follow(job, tools);
  if (ended.state === "cancelled") return "cancelled";
  if (ended.state === "failed") throw new JobFailed(ended.error?.message ?? "");
  return bringBack(studyUid, ended.id, tools);
}

/** The archive has a result, or will have it: wait for it and show it. */
export async function bringBack(studyUid: string, jobId: string, tools: Tools): Promise<Outcome> {
  const { archive, viewer, view, signal } = tools;
  const before = new Set(viewer.segmentationsOf(studyUid).map((one) => one.SOPInstanceUID));
  view.onStep("delivering");
  const delivery = await archive.delivered(jobId, (reason) => reason && view.onArchiveAway(reason), signal);
  if (viewer.missing().length > 0 || !viewer.hasOpen(studyUid)) return "stored";
  view.onStep("showing");
  const found = await viewer.refresh(studyUid, () => newest(viewer.segmentationsOf(studyUid), before, delivery));
  if (!found || !viewer.hasOpen(studyUid)) return "stored";
  await viewer.show(found);
  return "shown";
}

/** Report, key images and summary may reach the archive after the segmentation; nobody waits for them. */
export async function bringRest(studyUid: string, jobId: string, tools: Tools): Promise<void> {
  await tools.archive.settled(jobId, tools.signal);
  if (tools.viewer.hasOpen(studyUid)) await tools.viewer.lookAgain(studyUid);
}

/** The one that was delivered; where it is not named, the last that was not there before. */
function newest(all: DisplaySet[], before: ReadonlySet<unknown>, { sop_instance_uid }: Delivered): DisplaySet | null {
  const named = all.find((one) => sop_instance_uid && one.SOPInstanceUID === sop_instance_uid);
  return named ?? all.filter((one) => !sop_instance_uid && !before.has(one.SOPInstanceUID)).pop() ?? null;
}

/** What Segwire has of the study; from the archive when it has nothing, or not all four sequences. */
async function bringIn(uid: string, { archive, view, signal }: Tools): Promise<Study> {
  const known = await archive.known(uid, signal);
  if (known && SEQUENCES.every((sequence) => proposedIn(known)[sequence])) return known;
  try {
    return await archive.pull(uid, (pull) => view.onPull(pull), signal);
  } catch (error) {
    const isRefused = error instanceof ProblemError || error instanceof NotPulled;
    if (!known || !isRefused) throw error;
    return known; // brought in by other ways, and the archive has no more
  }
}

/** The server's proposal; the person is asked where a sequence is missing or doubtful, and what they say is kept. */
async function settle(study: Study, { client, view }: Tools): Promise<Choice | null> {
  const proposed = proposedIn(study);
  const warnings = study.proposal?.warnings ?? [];
  if (warnings.length === 0 && SEQUENCES.every((sequence) => proposed[sequence])) return proposed;
  const choice = await view.choose(study, proposed, warnings);
  for (const sequence of choice ? SEQUENCES : []) {
    const series = study.series.find((one) => one.id === choice?.[sequence]);
    const isDoubted = warnings.length > 0 && series?.sequence_source !== "person";
    if (series && (series.sequence !== sequence || isDoubted)) await client.correct(series.id, sequence);
  }
  return choice;
}

export function proposedIn(study: Study): Choice {
  const best = (sequence: Sequence): string | null => {
    const fitting = study.series.filter((one) => one.sequence === sequence);
    fitting.sort((one, other) => other.sequence_confidence - one.sequence_confidence);
    return fitting[0]?.id ?? null;
  };
  return study.proposal?.series ?? { T1: best("T1"), T1CE: best("T1CE"), T2: best("T2"), FLAIR: best("FLAIR") };
}

/** The job as it ended. Throws what the signal was aborted with. */
function follow(job: Job, { client, view, signal }: Tools): Promise<Job> {
  return new Promise((resolve, reject) => {
    let watch: { close(): void } | null = null;
    const settle = (finish: () => void): void => {
      watch?.close();
      client.close();
      finish();
    };
    watch = client.watchJob(job.id, {
      onJob: (now) => {
        view.onJob(now);
        if (now.finished_at !== null) settle(() => resolve(now));
      },
      onTrouble: ({ detail }) => settle(() => reject(new JobFailed(detail))),
    });
    signal.addEventListener("abort", () => settle(() => reject(signal.reason as Error)), { once: true });
  });
}
