/** Looking for a study in an archive and fetching it, in a dialog of its own. */

import type { Archive, ArchivedStudy, ArchiveQuestion, Archives, Pull } from "../client";
import { h, redraw, replace, show, text } from "./dom";
import { sentenceOf } from "./sentences";
import { readableName } from "./studies";
import { told } from "./told";
import { onLanguage, say, sayIn, t, type Key } from "./words";

const LOOK_MS = 700;

const FIELDS: readonly (readonly [keyof ArchiveQuestion, Key, string])[] = [
  ["patient_id", "patientId", "text"],
  ["patient_name", "patientName", "text"],
  ["accession", "accession", "text"],
  ["date", "studyDate", "date"],
];

/** What a pull says of itself. */
export function pullLine(pull: Pull): string {
  if (pull.state === "queued") return t("pullQueued");
  if (pull.state !== "failed") return t("pulling", { done: pull.done, total: pull.total || "…" });
  const reason = pull.error ? told(pull.error.message, pull.error.code) : "";
  return t("pullFailed", { reason }).trim();
}

export class ArchiveSearch {
  /** Opens the dialog; hidden while there is no archive that can be searched. */
  readonly button = say(h("button", { type: "button", "data-testid": "archive-open" }), "archiveOpen");
  readonly dialog = h("dialog", { class: "archive", "data-testid": "archive" });
  private readonly server = h("select", { "data-testid": "archive-server" });
  private readonly serverRow = h("label", { class: "field" }, say(h("span"), "archiveServer"), this.server);
  private readonly inputs = new Map<keyof ArchiveQuestion, HTMLInputElement>();
  private readonly submit = say(
    h("button", { type: "submit", class: "main", "data-testid": "archive-search" }),
    "searchNow",
  );
  private readonly status = h("p", { class: "status", role: "status", "data-testid": "archive-status" });
  private readonly list = h("ul", { class: "found", "data-testid": "archive-found" });
  private line: () => string = () => "";
  private asked = new AbortController();
  private found: { server: string; studies: ArchivedStudy[] } = { server: "", studies: [] };
  private readonly pulls = new Map<string, Pull>();

  constructor(
    private readonly archives: Archives,
    private readonly onOpen: (studyId: string) => void,
  ) {
    const close = say(h("button", { type: "button", class: "quiet", "data-testid": "archive-close" }), "close");
    close.addEventListener("click", () => this.dialog.close());
    const form = h(
      "form",
      { method: "dialog" },
      this.serverRow,
      ...FIELDS.map((field) => this.field(...field)),
      this.submit,
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.search();
    });
    sayIn(this.dialog, "aria-label", "archiveTitle").append(
      h("div", { class: "line" }, say(h("h2"), "archiveTitle"), close),
      form,
      this.status,
      this.list,
    );
    this.button.addEventListener("click", () => this.dialog.showModal());
    show(this.button, false);
    onLanguage(() => {
      text(this.status, this.line());
      this.draw();
    });
  }

  setServers(servers: Archive[]): void {
    const searchable = servers.filter((one) => one.can_search);
    replace(this.server, ...searchable.map((one) => h("option", { value: one.name }, one.name)));
    const preferred = searchable.find((one) => one.is_default) ?? searchable[0];
    this.server.value = preferred?.name ?? "";
    show(this.serverRow, searchable.length > 1);
    show(this.button, searchable.length > 0);
  }

  private field(name: keyof ArchiveQuestion, key: Key, type: string): HTMLElement {
    const input = h("input", { type, name, autocomplete: "off", maxlength: 64, "data-testid": `archive-${name}` });
    this.inputs.set(name, input);
    return h("label", { class: "field" }, say(h("span"), key), input);
  }

  private async search(): Promise<void> {
    const question: ArchiveQuestion = {};
    for (const [name, input] of this.inputs) if (input.value.trim()) question[name] = input.value.trim();
    // A day alone would match a whole morning of everybody.
    if (!question.patient_id && !question.patient_name && !question.accession)
      return this.tell(() => t("sayMore"), true);
    this.asked.abort();
    const { signal } = (this.asked = new AbortController());
    const server = this.server.value;
    this.tell(() => t("searching"));
    this.found = { server, studies: [] };
    this.draw();
    try {
      const { studies, is_complete } = await this.archives.search(server, question, signal);
      if (signal.aborted) return;
      this.found = { server, studies };
      const count = (): string =>
        studies.length > 0 ? t("archiveFound", { count: studies.length }) : t("archiveNothing");
      this.tell(() => (is_complete ? count() : `${count()} ${t("archiveMore")}`));
      this.draw();
    } catch (error) {
      if (!signal.aborted) this.tell(() => sentenceOf(error), true);
    }
  }

  private async fetch(server: string, study: ArchivedStudy): Promise<void> {
    try {
      let pull = await this.archives.pull(server, study.uid);
      this.took(study, pull);
      while (pull.state === "queued" || pull.state === "running") {
        await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
        pull = await this.archives.pulled(pull.id);
        this.took(study, pull);
      }
      if (pull.state === "done" && pull.study) this.open(pull.study);
    } catch (error) {
      const trouble = { code: "", message: sentenceOf(error) };
      this.took(study, { id: "", state: "failed", done: 0, total: 0, study: null, error: trouble });
    }
  }

  private took(study: ArchivedStudy, pull: Pull): void {
    this.pulls.set(study.uid, pull);
    if (pull.study) study.study = pull.study;
    this.draw();
  }

  /** Only whoever still looks at the dialog is taken to the study. */
  private open(studyId: string): void {
    if (!this.dialog.open) return;
    this.dialog.close();
    this.onOpen(studyId);
  }

  private tell(line: () => string, isBad = false): void {
    this.line = line;
    text(this.status, line());
    this.status.classList.toggle("bad", isBad);
  }

  private draw(): void {
    const { server, studies } = this.found;
    redraw(this.list, ...studies.map((study) => this.row(server, study)));
  }

  private row(server: string, study: ArchivedStudy): HTMLElement {
    const pull = this.pulls.get(study.uid) ?? null;
    const isFetching = pull !== null && (pull.state === "queued" || pull.state === "running");
    const name = readableName(study.patient_name) || study.description || t("unnamed");
    const series = study.series_count === null ? "" : t("seriesCount", { count: study.series_count });
    const facts = [study.patient_id, study.date, study.accession].filter(Boolean).join(" · ");
    const more = [study.description, study.modalities.join(", "), series].filter(Boolean).join(" · ");
    const buttons: HTMLElement[] = [];
    const known = study.study;
    if (known) buttons.push(this.act("openStudy", "archive-show", study.uid, () => this.open(known)));
    if (!isFetching) {
      const key = known ? "fetchAgain" : "fetchStudy";
      buttons.push(this.act(key, "archive-fetch", study.uid, () => void this.fetch(server, study)));
    }
    const row = h(
      "li",
      { "data-testid": "archive-study", "data-state": pull?.state ?? "" },
      h("div", {}, h("b", {}, name), h("span", {}, facts), h("span", {}, more)),
      h("div", { class: "row" }, ...buttons),
    );
    if (pull && pull.state !== "done") {
      row.append(h("p", { class: pull.state === "failed" ? "bad" : "status", role: "status" }, pullLine(pull)));
      if (isFetching) row.append(h("progress", pull.total > 0 ? { max: pull.total, value: pull.done } : {}));
    }
    return row;
  }

  private act(key: Key, testId: string, uid: string, act: () => void): HTMLElement {
    const button = say(h("button", { type: "button", "data-testid": testId, "data-key": `${testId} ${uid}` }), key);
    button.addEventListener("click", act);
    return button;
  }
}
