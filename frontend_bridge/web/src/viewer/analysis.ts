/** The "AI analysis" card: the button, where it runs, and how far it is. */

import { STAGES, isOpen, type Job, type Sequence } from "../client";
import { h, replace, show, text } from "./dom";
import { told } from "./told";
import { duration, onLanguage, say, t, unsay } from "./words";

export interface AnalysisEvents {
  onStart(useLocal: boolean | undefined): void;
  onCancel(job: Job): void;
  onChoose(jobId: string): void;
}

export class AnalysisCard {
  readonly element: HTMLElement;
  private readonly start = h("button", { type: "button", class: "main", "data-testid": "analyse" });
  private readonly cancel = h("button", { type: "button", "data-testid": "cancel" });
  private readonly route = h("select", { "data-testid": "route" });
  private readonly state = h("b", { "data-testid": "state" });
  private readonly percent = h("span", { class: "percent", "data-testid": "percent" });
  private readonly bar = h("progress", { max: 1, value: 0, "data-testid": "progress" });
  private readonly steps = h("ol", { class: "steps", "data-testid": "stages" });
  private readonly facts = h("p", { class: "facts" });
  private readonly worker = h("span", { "data-testid": "worker" });
  private readonly eta = h("span", { "data-testid": "eta" });
  private readonly model = h("span", { "data-testid": "model" });
  private readonly reason = h("p", { class: "reason", role: "status", "data-testid": "reason" });
  private readonly history = h("select", { "data-testid": "history" });
  private readonly historyRow: HTMLElement;
  private readonly status: HTMLElement;
  private job: Job | null = null;
  private jobs: Job[] = [];
  private isReady = false;
  private missing: Sequence[] = [];
  private isAsked = false;
  private isCancelling = false;
  private endsAt: number | null = null;
  private trouble: (() => string) | null = null;

  constructor(events: AnalysisEvents, { isStaff }: { isStaff: boolean }) {
    this.start.addEventListener("click", () => {
      const { value } = this.route;
      events.onStart(value === "" ? undefined : value === "lab");
    });
    say(this.cancel, "cancel").addEventListener("click", () => this.job && events.onCancel(this.job));
    this.history.addEventListener("change", () => events.onChoose(this.history.value));
    this.historyRow = h("label", { class: "field" }, say(h("span"), "earlier"), this.history);
    this.facts.append(this.worker, this.model, this.eta);
    this.status = h(
      "div",
      { class: "job", "data-testid": "job" },
      h("div", { class: "line" }, this.state, this.percent),
      this.bar,
      this.steps,
      this.facts,
    );
    this.route.append(
      say(h("option", { value: "" }), "routeDefault"),
      say(h("option", { value: "lab" }), "routeLab"),
      say(h("option", { value: "server" }), "routeServer"),
    );
    const routeRow = h("label", { class: "field" }, say(h("span"), "route"), this.route);
    show(routeRow, isStaff);
    this.element = h(
      "section",
      { class: "card analysis" },
      h("div", { class: "row" }, this.start, this.cancel),
      routeRow,
      this.status,
      this.reason,
      this.historyRow,
    );
    setInterval(() => this.tick(), 1000);
    onLanguage(() => this.draw());
    this.draw();
  }

  /** Whether it can be asked for as things are chosen, and which sequences it would have to do without. */
  setReady(isReady: boolean, missing: Sequence[]): void {
    this.isReady = isReady;
    this.missing = missing;
    this.draw();
  }

  /** Between the click and the server's answer. */
  setAsked(isAsked: boolean): void {
    this.isAsked = isAsked;
    if (isAsked) this.trouble = null;
    this.draw();
  }

  setCancelling(isCancelling: boolean): void {
    this.isCancelling = isCancelling;
    this.draw();
  }

  setTrouble(sentence: (() => string) | null): void {
    this.trouble = sentence;
    this.draw();
  }

  setJobs(jobs: Job[]): void {
    this.jobs = jobs;
    this.draw();
  }

  setJob(job: Job | null): void {
    if (job?.eta_seconds !== this.job?.eta_seconds || job?.id !== this.job?.id) {
      this.endsAt = job && job.eta_seconds !== null ? Date.now() + 1000 * job.eta_seconds : null;
    }
    if (!job || !isOpen(job)) this.isCancelling = false;
    this.job = job;
    this.jobs = this.jobs.map((one) => (one.id === job?.id ? job : one));
    this.draw();
  }

  private draw(): void {
    const job = this.job;
    const isBusy = job !== null && isOpen(job);
    const names = this.missing.join(", ");
    if (names && this.isReady) say(this.start, "analyseWithout", { names });
    else say(this.start, job && !isBusy ? "analyseAgain" : "analyse");
    this.start.disabled = !this.isReady || this.isAsked || isBusy;
    this.start.classList.toggle("again", job !== null && !isBusy);
    show(this.cancel, isBusy);
    this.cancel.disabled = this.isCancelling;
    say(this.cancel, this.isCancelling ? "cancelling" : "cancel");
    this.route.disabled = isBusy;
    show(this.status, job !== null);
    if (job) this.drawJob(job, isBusy);
    this.drawReason();
    this.drawHistory();
  }

  private drawJob(job: Job, isBusy: boolean): void {
    Object.assign(this.status.dataset, {
      state: job.state,
      stage: job.stage ?? "",
      progress: job.progress.toFixed(4),
      job: job.id,
      route: job.route,
    });
    say(this.state, job.state);
    text(this.percent, job.state === "queued" || !isBusy ? "" : `${Math.floor(100 * job.progress)} %`);
    show(this.bar, isBusy);
    this.bar.value = job.progress;
    show(this.steps, isBusy && job.state !== "queued");
    const at = job.stage ? STAGES.indexOf(job.stage) : -1;
    const steps = STAGES.map((stage, index) => {
      const step = say(h("li", { class: index < at ? "done" : index === at ? "now" : "" }), stage);
      if (index === at) step.setAttribute("aria-current", "step");
      return step;
    });
    replace(this.steps, ...steps);
    const route = t(job.route === "lab" ? "routeLab" : "routeServer");
    text(this.worker, [job.worker ?? route, job.worker ? `(${route})` : ""].filter(Boolean).join(" "));
    text(this.model, [job.model, job.model_version].filter(Boolean).join(" "));
    this.tick();
  }

  private drawReason(): void {
    const job = this.job;
    unsay(this.reason);
    const lines: string[] = [];
    if (this.trouble) lines.push(this.trouble());
    if (job?.state === "queued") {
      if (job.queue_position !== null) lines.push(t("position", { position: job.queue_position }));
      if (job.waiting_reason) lines.push(t(job.waiting_reason));
    }
    if (job && isOpen(job) && job.attempt > 1) lines.push(t("attempt", { attempt: job.attempt }));
    if (job?.missing_sequences?.length) lines.push(t("ranWithout", { names: job.missing_sequences.join(", ") }));
    if (job?.error) lines.push(told(job.error.message, job.error.code));
    text(this.reason, lines.join(" · "));
    this.reason.classList.toggle("bad", this.trouble !== null || job?.state === "failed");
    show(this.reason, lines.length > 0);
  }

  private drawHistory(): void {
    show(this.historyRow, this.jobs.length > 1);
    const clock = new Intl.DateTimeFormat(document.documentElement.lang, {
      dateStyle: "medium",
      timeStyle: "short",
      hourCycle: "h23",
    });
    const options = this.jobs.map((job) =>
      h("option", { value: job.id }, `${clock.format(new Date(job.created_at))} · ${t(job.state)}`),
    );
    replace(this.history, ...options);
    this.history.value = this.job?.id ?? "";
  }

  private tick(): void {
    const job = this.job;
    if (!job) return;
    if (isOpen(job)) {
      const left = this.endsAt === null ? null : (this.endsAt - Date.now()) / 1000;
      text(this.eta, left === null || job.state === "queued" ? "" : t("eta", { time: duration(Math.max(1, left)) }));
    } else if (job.finished_at && job.started_at && job.state === "succeeded") {
      const seconds = (Date.parse(job.finished_at) - Date.parse(job.started_at)) / 1000;
      text(this.eta, t("took", { time: duration(seconds) }));
    } else {
      text(this.eta, "");
    }
  }
}
