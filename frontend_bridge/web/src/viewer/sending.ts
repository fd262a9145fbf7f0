/** How far the results have gone to the archives: waiting, sent or failed with its reason, and sending again. */

import type { Archive, Archives, ArchiveTrouble, Delivery, Job } from "../client";
import { h, redraw, show } from "./dom";
import { sentenceOf } from "./sentences";
import { told } from "./told";
import { onLanguage, say, t, type Key } from "./words";

const LOOK_MS = 3_000;
const LONGEST_MS = 30_000;
const KINDS = ["seg", "sr", "key", "pdf"] as const;

export type SendingState = "waiting" | "retrying" | "sent" | "failed" | "none";

/** One archive's part in one line: the worst of its objects counts. */
export function stateOf(deliveries: readonly Delivery[]): {
  state: SendingState;
  attempts: number;
  error: ArchiveTrouble | null;
} {
  const failed = deliveries.find((one) => one.state === "failed");
  if (failed) return { state: "failed", attempts: failed.attempts, error: failed.error };
  const waiting = deliveries.filter((one) => one.state === "waiting");
  if (waiting.length > 0) {
    const attempts = Math.max(...waiting.map((one) => one.attempts));
    const error = waiting.find((one) => one.error)?.error ?? null;
    return { state: attempts > 0 ? "retrying" : "waiting", attempts, error };
  }
  return { state: deliveries.length > 0 ? "sent" : "none", attempts: 0, error: null };
}

export class SendingList {
  readonly element: HTMLElement;
  private readonly list = h("ul", { "data-testid": "deliveries" });
  private servers: Archive[] = [];
  private deliveries: Delivery[] = [];
  private job: string | null = null;
  private trouble: (() => string) | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private pause = LOOK_MS;

  constructor(private readonly archives: Archives) {
    this.element = h("section", { class: "sending", "data-testid": "sending" }, say(h("h3"), "archives"), this.list);
    onLanguage(() => this.draw());
    this.draw();
  }

  setServers(servers: Archive[]): void {
    this.servers = servers;
    void this.look();
  }

  /** The finished job whose results are sent; null: there is nothing to send. */
  setJob(job: Job | null): void {
    const id = job?.result?.seg_url ? job.id : null;
    if (id === this.job) return;
    this.job = id;
    this.deliveries = [];
    this.trouble = null;
    this.pause = LOOK_MS;
    this.draw();
    void this.look();
  }

  private async look(): Promise<void> {
    clearTimeout(this.timer);
    const job = this.job;
    if (!job || this.servers.length === 0) return;
    try {
      const deliveries = await this.archives.deliveries(job);
      if (this.job !== job) return;
      const isNews = JSON.stringify(deliveries) !== JSON.stringify(this.deliveries);
      this.pause = isNews ? LOOK_MS : Math.min(1.5 * this.pause, LONGEST_MS);
      this.deliveries = deliveries;
      this.draw();
    } catch (error) {
      if (this.job !== job) return;
      this.pause = LONGEST_MS;
      this.say(() => sentenceOf(error));
    }
    // What is sent by itself appears a moment after the result.
    if (this.deliveries.length === 0 || this.deliveries.some((one) => one.state === "waiting"))
      this.timer = setTimeout(() => void this.look(), this.pause);
  }

  private async send(server: Archive, button: HTMLButtonElement): Promise<void> {
    const job = this.job;
    if (!job) return;
    button.disabled = true;
    try {
      await this.archives.send(server.name, job);
      this.trouble = null;
    } catch (error) {
      this.say(() => sentenceOf(error));
    } finally {
      button.disabled = false;
    }
    this.pause = LOOK_MS;
    await this.look();
  }

  private say(sentence: () => string): void {
    this.trouble = sentence;
    this.draw();
  }

  private draw(): void {
    show(this.element, this.job !== null && this.servers.length > 0);
    const trouble = this.trouble ? h("li", { class: "bad", role: "alert" }, this.trouble()) : null;
    redraw(this.list, ...this.servers.map((server) => this.row(server)), trouble);
  }

  private row(server: Archive): HTMLElement {
    const own = this.deliveries.filter((one) => one.server === server.name);
    const { state, attempts, error } = stateOf(own);
    const button = h("button", { type: "button", class: "quiet", "data-testid": "send", "data-key": server.name });
    say(button, state === "none" ? "send" : "sendAgain").addEventListener(
      "click",
      () => void this.send(server, button),
    );
    show(button, state === "none" || state === "failed" || state === "retrying");
    const kinds = KINDS.filter((kind) => own.some((one) => one.kind === kind)).map((kind) => t(`kind_${kind}` as Key));
    return h(
      "li",
      { "data-testid": "delivery", "data-server": server.name, "data-state": state },
      h(
        "div",
        { class: "line" },
        h("span", {}, t("sentTo", { name: server.name, state: t(`delivery_${state}` as Key, { attempts }) })),
        button,
      ),
      kinds.length > 0 ? h("p", { class: "by" }, kinds.join(" · ")) : null,
      error && state !== "sent" ? h("p", { class: "why bad" }, told(error.message, error.code)) : null,
    );
  }
}
