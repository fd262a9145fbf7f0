/** One opened study: its slots, its pictures, and the analysis that is shown over them. */

import {
  isOpen,
  ProblemError,
  type Archive,
  type Job,
  type Preview,
  type SegmentationClient,
  type Sequence,
  type Series,
  type Study,
  type Watch,
} from "../client";
import { readNifti } from "../imaging/nifti";
import { readPreview } from "../imaging/preview";
import { closestRas, type Volume } from "../imaging/volume";
import { AnalysisCard } from "./analysis";
import { h, show } from "./dom";
import type { PaneGrid } from "./grid";
import { lesionPoint } from "./lesion";
import { ResultCard } from "./result";
import { sentenceOf } from "./sentences";
import { SequencesCard } from "./sequences";
import { idsOf, isClash, missingOf } from "./slots";
import { t } from "./words";

export class Reading {
  readonly panel: HTMLElement;
  private readonly sequences: SequencesCard;
  private readonly analysis: AnalysisCard;
  private readonly result: ResultCard;
  private study: Study | null = null;
  /** The series for which the server has said that it cannot do without the missing sequences. */
  private refused = "";
  private job: Job | null = null;
  private mask: Volume | null = null;
  /** The job whose report is shown or on its way. */
  private reported: string | null = null;
  private jobWatch: Watch | null = null;
  private studyWatch: Watch | null = null;

  constructor(
    private readonly client: SegmentationClient,
    private readonly grid: PaneGrid,
    options: { isStaff: boolean },
  ) {
    this.analysis = new AnalysisCard(
      {
        onStart: (useLocal) => void this.start(useLocal),
        onCancel: (job) => void this.cancel(job),
        onChoose: (id) => this.follow(id),
      },
      options,
    );
    this.result = new ResultCard(
      { onLook: (look) => grid.setLook(look), onShowLesion: () => this.showLesion() },
      client.archives,
    );
    this.sequences = new SequencesCard({
      onSlots: () => this.slotsChanged(),
      onCorrect: (corrections) => void this.correct(corrections),
    });
    this.panel = h("aside", { class: "panel" }, this.sequences.element, this.analysis.element, this.result.element);
    show(this.panel, false);
  }

  setServers(servers: Archive[]): void {
    this.result.setServers(servers);
  }

  async open(study: Study): Promise<void> {
    this.close();
    this.study = study;
    show(this.panel, true);
    this.sequences.setStudy(study);
    this.drawReady();
    let isFirst = true;
    this.studyWatch = this.client.watchStudy(study.id, {
      // A second snapshot means that changes may have been missed.
      onJobs: () => {
        if (!isFirst) void this.caughtUp();
        isFirst = false;
      },
      onChange: (change) => void this.changed(change.type),
    });
    const pictures = this.grid.setSlots(this.sequences.slots);
    await this.findJob();
    await pictures;
  }

  private close(): void {
    this.refused = "";
    this.sequences.setTrouble(null);
    this.jobWatch?.close();
    this.studyWatch?.close();
    this.jobWatch = this.studyWatch = null;
    this.job = null;
    this.grid.reset();
    this.clearMask();
    this.analysis.setJobs([]);
    this.analysis.setJob(null);
    this.analysis.setTrouble(null);
  }

  /** The open analysis of this study, else the newest that found something, else the newest. */
  private async findJob(): Promise<void> {
    const study = this.study;
    if (!study) return;
    try {
      const jobs = await this.client.jobs(study.id);
      if (this.study !== study) return;
      this.analysis.setJobs(jobs);
      const chosen = jobs.find(isOpen) ?? jobs.find((job) => job.result !== null) ?? jobs[0];
      if (chosen && chosen.id !== this.job?.id) this.follow(chosen.id);
    } catch (error) {
      this.analysis.setTrouble(() => sentenceOf(error));
    }
  }

  private async start(useLocal: boolean | undefined): Promise<void> {
    const { slots } = this.sequences;
    const ids = idsOf(slots);
    const study = this.study;
    if (ids.length === 0 || !study) return;
    const before = this.job;
    this.analysis.setAsked(true);
    this.clearMask();
    try {
      const reference = slots.T1CE?.id ?? ids[0];
      const job = await this.client.request(reference, { sequenceSeriesIds: ids, useLocal });
      if (this.study !== study) return;
      this.follow(job.id, job);
      this.analysis.setJobs(await this.client.jobs(study.id));
    } catch (error) {
      if (before) this.follow(before.id);
      if (error instanceof ProblemError && error.code === "sequence_missing") this.refused = ids.join();
      this.analysis.setTrouble(() => t("failedStart", { reason: sentenceOf(error) }));
    } finally {
      this.analysis.setAsked(false);
      this.drawReady();
    }
  }

  /** A person says what some series are. The server keeps it, and proposes anew. */
  private async correct(corrections: { series: Series; sequence: Sequence | null }[]): Promise<void> {
    const study = this.study;
    try {
      for (const { series, sequence } of corrections) await this.client.correct(series.id, sequence);
      if (this.study === study) this.sequences.setTrouble(null);
    } catch (error) {
      if (this.study === study) this.sequences.setTrouble(t("notCorrected", { reason: sentenceOf(error) }));
    }
    await this.refetch();
  }

  /** With fewer than four the server is asked once; what it refused is not offered again. */
  private drawReady(): void {
    const { slots } = this.sequences;
    const ids = idsOf(slots);
    this.analysis.setReady(ids.length > 0 && !isClash(slots) && this.refused !== ids.join(), missingOf(slots));
  }

  private async cancel(job: Job): Promise<void> {
    this.analysis.setCancelling(true);
    try {
      await this.client.cancel(job.id);
    } catch (error) {
      this.analysis.setCancelling(false);
      this.analysis.setTrouble(() => sentenceOf(error));
    }
  }

  private follow(id: string, known?: Job): void {
    this.jobWatch?.close();
    this.clearMask();
    this.analysis.setTrouble(null);
    if (known) this.showJob(known);
    this.jobWatch = this.client.watchJob(id, {
      onJob: (job) => this.showJob(job),
      onPreview: (preview) => void this.showPreview(id, preview),
      onMask: (file, job) => void this.showMask(file, job),
      onTrouble: (trouble) => this.analysis.setTrouble(() => trouble.detail),
    });
  }

  private showJob(job: Job): void {
    this.job = job;
    this.analysis.setJob(job);
    if (job.result) this.showResult(job);
    else if (!isOpen(job)) this.clearMask();
  }

  private showResult(job: Job): void {
    this.result.showResult(job);
    if (this.reported === job.id || !job.result) return;
    this.reported = job.id;
    // The figures of the table came with the job; what the report says beside them may come a moment later, or not.
    this.client
      .report(job.result)
      .then((report) => this.job?.id === job.id && this.result.setReport(report))
      .catch(() => (this.reported = null));
  }

  private async showPreview(id: string, preview: Preview): Promise<void> {
    const volume = await readPreview(preview);
    if (this.job?.id !== id || !isOpen(this.job)) return;
    this.result.showPreview();
    this.grid.setMask({ volume: closestRas(volume), file: null });
  }

  private async showMask(file: Uint8Array<ArrayBuffer>, job: Job): Promise<void> {
    try {
      const volume = closestRas(await readNifti(file));
      if (this.job?.id !== job.id) return;
      this.mask = volume;
      this.grid.setMask({ volume, file });
      if (!this.grid.isTouched) this.showLesion();
    } catch (error) {
      this.analysis.setTrouble(() => sentenceOf(error));
    }
  }

  private showLesion(): void {
    const point = this.mask && lesionPoint(this.mask);
    if (point) this.grid.goTo(point);
  }

  private clearMask(): void {
    this.mask = null;
    this.reported = null;
    this.grid.setMask(null);
    this.result.clear();
  }

  private slotsChanged(): void {
    this.drawReady();
    void this.grid.setSlots(this.sequences.slots);
  }

  private async changed(type: string): Promise<void> {
    if (!type.startsWith("job.")) await this.refetch();
    else if (!this.job || !isOpen(this.job)) await this.findJob();
  }

  private async caughtUp(): Promise<void> {
    await this.refetch();
    if (!this.job || !isOpen(this.job)) await this.findJob();
  }

  /** Series may have been added or replaced. */
  private async refetch(): Promise<void> {
    const study = this.study;
    if (!study) return;
    try {
      const fresh = await this.client.study(study.id);
      if (this.study !== study) return;
      this.study = fresh;
      this.sequences.setStudy(fresh);
      this.drawReady();
      await this.grid.setSlots(this.sequences.slots);
    } catch (error) {
      this.analysis.setTrouble(() => sentenceOf(error));
    }
  }
}
