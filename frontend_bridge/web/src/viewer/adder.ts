/** Bringing files in: drop them anywhere, or choose files or a folder. */

import { ProblemError, type Refused, type SegmentationClient, type SetAside, type UploadAnswer } from "../client";
import { AsideList } from "./aside";
import { h, show, text } from "./dom";
import { chosenFiles, droppedFiles } from "./files";
import { sentenceOf } from "./sentences";
import { onLanguage, say, t } from "./words";

const MB = 1024 * 1024;

export class Adder {
  readonly element: HTMLElement;
  private readonly files = h("input", { type: "file", multiple: true, hidden: true, "data-testid": "file-input" });
  private readonly folder = h("input", {
    type: "file",
    hidden: true,
    webkitdirectory: true,
    "data-testid": "folder-input",
  });
  private readonly bar = h("progress", { max: 1, value: 0 });
  private readonly status = h("p", { class: "status", role: "status", "data-testid": "upload-status" });
  private readonly refused = new AsideList("notRead", "refusals");
  private readonly aside = new AsideList("setAside", "upload-set-aside");
  private readonly stopButton = h("button", { type: "button", class: "quiet" });
  private stop: AbortController | null = null;
  private line: () => string = () => "";

  constructor(
    private readonly client: SegmentationClient,
    private readonly onAdded: (answer: UploadAnswer) => void,
    archiveButton: HTMLElement,
  ) {
    const addFiles = say(h("button", { type: "button", "data-testid": "add-files" }), "addFiles");
    const addFolder = say(h("button", { type: "button", "data-testid": "add-folder" }), "addFolder");
    addFiles.addEventListener("click", () => this.files.click());
    addFolder.addEventListener("click", () => this.folder.click());
    for (const input of [this.files, this.folder]) {
      input.addEventListener("change", () => {
        const chosen = chosenFiles(input.files);
        input.value = "";
        void this.send(chosen);
      });
    }
    say(this.stopButton, "cancel").addEventListener("click", () => this.stop?.abort());
    this.element = h(
      "section",
      { class: "adder" },
      say(h("p", { class: "hint" }), "dropHere"),
      h("div", { class: "row" }, addFiles, addFolder),
      archiveButton,
      this.files,
      this.folder,
      h("div", { class: "row" }, this.bar, this.stopButton),
      this.status,
      this.refused.element,
      this.aside.element,
    );
    this.tell(() => "", null);
    onLanguage(() => text(this.status, this.line()));
  }

  /** Take drops anywhere on the page, which would otherwise leave it for the file, and light up `place`. */
  listen(place: HTMLElement): void {
    const page = document.documentElement;
    page.addEventListener("dragover", (event) => {
      event.preventDefault();
      place.classList.add("dropping");
    });
    page.addEventListener("dragleave", (event) => {
      if (event.relatedTarget === null) place.classList.remove("dropping");
    });
    page.addEventListener("drop", (event) => {
      event.preventDefault();
      place.classList.remove("dropping");
      if (event.dataTransfer) void droppedFiles(event.dataTransfer).then((files) => this.send(files));
    });
  }

  private async send(files: File[]): Promise<void> {
    if (files.length === 0 || this.stop) return;
    this.stop = new AbortController();
    this.refused.setFiles([]);
    this.aside.setFiles([]);
    try {
      const answer = await this.client.upload(files, {
        signal: this.stop.signal,
        onProgress: (sent, total, phase) => this.progress(sent, total, phase),
      });
      this.finished(answer);
    } catch (error) {
      const isStopped = this.stop.signal.aborted;
      this.tell(() => (isStopped ? t("uploadStopped") : sentenceOf(error)), null);
      this.status.classList.toggle("bad", !isStopped);
      if (error instanceof ProblemError) this.unread(error);
    } finally {
      this.stop = null;
    }
  }

  private progress(sent: number, total: number, phase: "sending" | "reading"): void {
    const figures = { sent: (sent / MB).toFixed(1), total: (total / MB).toFixed(1) };
    this.tell(() => (phase === "sending" ? t("sending", figures) : t("reading")), total > 0 ? sent / total : 1);
  }

  private finished(answer: UploadAnswer): void {
    const count = answer.studies.reduce((sum, study) => sum + study.series.length, 0);
    const refused = answer.refused.length;
    this.tell(
      () => [t("uploadDone", { count }), refused ? t("uploadRefused", { count: refused }) : ""].join(" "),
      null,
    );
    this.refused.setFiles(answer.refused);
    this.aside.setFiles(answer.set_aside ?? []);
    this.onAdded(answer);
  }

  /** Nothing could be read: each file with its reason. */
  private unread(error: ProblemError): void {
    const listed = <T>(name: string): T[] => (Array.isArray(error.extra[name]) ? (error.extra[name] as T[]) : []);
    this.refused.setFiles(listed<Refused>("refused"));
    this.aside.setFiles(listed<SetAside>("set_aside"));
  }

  private tell(line: () => string, fraction: number | null): void {
    this.line = line;
    this.status.classList.remove("bad");
    text(this.status, line());
    show(this.bar, fraction !== null);
    show(this.stopButton, fraction !== null);
    this.bar.value = fraction ?? 0;
  }
}
