/** A small card in the corner of OHIF, in a shadow tree of its own: neither page's styles reach the other. */

import { STAGES, SEQUENCES, isOpen, type Job, type Series, type Study } from "../client";
import { h, replace, show, text } from "../viewer/dom";
import type { Choice } from "./analysis";
import { durationIn, type Key, type Say } from "./words";
import type { Language } from "../viewer/words";
import css from "./panel.css?inline";

export interface Action {
  key: Key;
  name: string;
  act(): void;
  isMain?: boolean;
}

export class Panel {
  private readonly host = document.createElement("segwire-panel");
  private readonly title = h("b", { "data-testid": "segwire-title" });
  private readonly percent = h("span", { class: "percent", "data-testid": "segwire-percent" });
  private readonly subject = h("p", { class: "facts" });
  private readonly bar = h("progress", { max: 1, "data-testid": "segwire-progress" });
  private readonly facts = h("p", { class: "facts", "data-testid": "segwire-facts" });
  private readonly sentence = h("p", { role: "status", "data-testid": "segwire-sentence" });
  private readonly form = h("div", { class: "form" });
  private readonly actions = h("div", { class: "actions" });
  private readonly card: HTMLElement;
  private endsAt: number | null = null;
  private job: Job | null = null;
  private ticking: ReturnType<typeof setInterval> | undefined;

  constructor(
    private readonly say: Say,
    private readonly language: Language,
  ) {
    const close = h("button", { class: "close", type: "button", "aria-label": say("close"), title: say("close") }, "×");
    close.addEventListener("click", () => this.hide());
    this.card = h(
      "section",
      { class: "card", lang: language, "aria-label": say("analyse"), "data-testid": "segwire-panel" },
      h("header", {}, this.title, this.percent, close),
      this.subject,
      this.bar,
      this.facts,
      this.sentence,
      this.form,
      this.actions,
    );
    const root = this.host.attachShadow({ mode: "open" });
    const sheet = new CSSStyleSheet(); // allowed where a policy forbids inline styles
    sheet.replaceSync(css);
    root.adoptedStyleSheets = [sheet];
    root.append(this.card);
    // OHIF's shortcuts are single letters; what is typed here is not for them.
    for (const kind of ["keydown", "keyup", "keypress"])
      this.host.addEventListener(kind, (event) => event.stopPropagation());
  }

  show(): void {
    if (!this.host.isConnected) document.body.append(this.host);
    this.ticking ??= setInterval(() => this.drawFacts(), 1_000);
  }

  hide(): void {
    clearInterval(this.ticking);
    this.ticking = undefined;
    this.host.remove();
  }

  /** Which study this is about: the person may open another one meanwhile. */
  setSubject(words: string): void {
    text(this.subject, words);
  }

  /** A step without a job: one sentence, and how far it is when that is known. */
  showStep(sentence: string, done: number | null = null): void {
    this.draw({ state: "busy", title: this.say("analyse"), sentence });
    if (done === null) this.bar.removeAttribute("value");
    else this.bar.value = done;
    show(this.bar, true);
  }

  showJob(job: Job): void {
    if (job.eta_seconds !== this.job?.eta_seconds) {
      this.endsAt = job.eta_seconds === null ? null : Date.now() + 1_000 * job.eta_seconds;
    }
    this.draw({ state: job.state, title: this.say(job.state), sentence: this.reasonOf(job) });
    this.job = job;
    text(this.percent, isOpen(job) && job.state !== "queued" ? `${Math.floor(100 * job.progress)} %` : "");
    this.bar.value = job.progress;
    show(this.bar, isOpen(job));
    this.card.dataset["progress"] = job.progress.toFixed(4);
    this.card.dataset["job"] = job.id;
    this.drawFacts();
  }

  showEnd(state: "shown" | "stored" | "cancelled" | "failed", sentence: string): void {
    const title = state === "shown" || state === "stored" ? "succeeded" : state;
    this.draw({ state, title: this.say(title), sentence });
    show(this.bar, false);
  }

  setActions(actions: readonly Action[]): void {
    const buttons = actions.map(({ key, name, act, isMain }) => {
      const button = h("button", { type: "button", "data-testid": `segwire-${name}` }, this.say(key));
      button.classList.toggle("main", isMain ?? false);
      button.addEventListener("click", act);
      return button;
    });
    replace(this.actions, ...buttons);
  }

  /** Which series is which sequence; null when the person lets it be. */
  choose(study: Study, proposed: Choice, warnings: readonly string[]): Promise<Choice | null> {
    this.draw({ state: "asking", title: this.say("checkSequences"), sentence: warnings.join(" ") });
    show(this.bar, false);
    const selects = SEQUENCES.map((sequence) => {
      const none = h("option", { value: "" }, this.say("noSuchSeries"));
      const options = study.series.map((one) => h("option", { value: one.id }, describe(one)));
      const select = h("select", { "data-testid": `segwire-slot-${sequence}` }, none, ...options);
      select.value = proposed[sequence] ?? "";
      return select;
    });
    replace(this.form, ...SEQUENCES.map((sequence, at) => h("label", {}, h("span", {}, sequence), selects[at])));
    return new Promise((resolve) => {
      const finish = (choice: Choice | null): void => {
        replace(this.form);
        this.setActions([]);
        resolve(choice);
      };
      const chosen = (): Choice =>
        Object.fromEntries(SEQUENCES.map((sequence, at) => [sequence, selects[at].value || null])) as Choice;
      this.setActions([
        { key: "start", name: "start", act: () => finish(chosen()), isMain: true },
        { key: "cancel", name: "cancel", act: () => finish(null) },
      ]);
    });
  }

  /** Ask for a sign-in at the server, or for a token. */
  askSignIn(server: string, isTokenRefused: boolean, onToken: (token: string) => void): void {
    this.draw({
      state: "sign-in",
      title: this.say("signedOut"),
      sentence: this.say(isTokenRefused ? "tokenRefused" : "needSignIn"),
    });
    show(this.bar, false);
    const link = h("a", { href: `${server}/login/`, target: "_blank", rel: "noopener" }, this.say("openSignIn"));
    const token = h("input", { type: "password", autocomplete: "off", "data-testid": "segwire-token" });
    token.setAttribute("aria-label", this.say("orToken"));
    const use = h("button", { type: "button", "data-testid": "segwire-use-token" }, this.say("useToken"));
    use.addEventListener("click", () => onToken(token.value));
    replace(this.form, h("p", {}, link), h("label", {}, h("span", {}, this.say("orToken")), token), use);
  }

  private draw({ state, title, sentence }: { state: string; title: string; sentence: string }): void {
    this.show();
    this.job = null;
    this.card.dataset["state"] = state;
    text(this.title, title);
    text(this.percent, "");
    text(this.facts, "");
    text(this.sentence, sentence);
    show(this.sentence, sentence !== "");
    replace(this.form);
  }

  private reasonOf(job: Job): string {
    if (job.state !== "queued") return "";
    const lines: string[] = [];
    if (job.queue_position !== null) lines.push(this.say("position", { position: job.queue_position }));
    if (job.waiting_reason) lines.push(this.say(job.waiting_reason));
    return lines.join(" · ");
  }

  /** Stage, who computes, and how long still. */
  private drawFacts(): void {
    const job = this.job;
    if (!job) return;
    const left = this.endsAt === null ? null : (this.endsAt - Date.now()) / 1_000;
    const facts = isOpen(job)
      ? [
          job.stage && job.state === "running" ? this.stageOf(job) : "",
          job.state === "queued" ? "" : (job.worker ?? this.say(job.route === "lab" ? "routeLab" : "routeServer")),
          left === null || job.state === "queued" ? "" : this.say("eta", { time: durationIn(this.language, left) }),
        ]
      : [];
    text(this.facts, facts.filter(Boolean).join(" · "));
  }

  private stageOf(job: Job): string {
    return job.stage ? `${this.say(job.stage)} (${STAGES.indexOf(job.stage) + 1}/${STAGES.length})` : "";
  }
}

const describe = (series: Series): string =>
  `${series.description || series.uid.slice(-8)} · ${series.shape.join("×")}`;
