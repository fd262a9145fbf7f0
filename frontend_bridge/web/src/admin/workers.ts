/** One row a worker, redrawn whenever something changes. Names come from outside: text only. */

import type { LineState, Worker } from "../client";
import { h, replace, text } from "../viewer/dom";
import { WORDS, type AdminLanguage } from "./words";

export class WorkersTable {
  private readonly status = h("p", { class: "live-status", role: "status", "data-testid": "live-status" });
  private readonly body = h("tbody", {});
  private readonly words: (typeof WORDS)[AdminLanguage];
  private workers: Worker[] = [];

  constructor(place: HTMLElement, language: AdminLanguage) {
    this.words = WORDS[language];
    const head = h("tr", {}, ...this.words.columns.map((column) => h("th", { scope: "col" }, column)));
    const table = h("table", { class: "live-workers", "data-testid": "live-workers" }, h("thead", {}, head), this.body);
    replace(place, this.status, h("div", { class: "live-scroll" }, table));
    setInterval(() => this.draw(), 1000);
  }

  setConnection(state: LineState): void {
    this.status.dataset["state"] = state;
    text(this.status, state === "open" ? `● ${this.words.live}` : state === "connecting" ? "…" : this.words.lost);
  }

  setTrouble(detail: string): void {
    this.status.dataset["state"] = "refused";
    text(this.status, detail);
  }

  setWorkers(workers: Worker[]): void {
    this.workers = workers;
    this.draw();
  }

  private draw(): void {
    const rows = this.workers.map((worker) => this.row(worker));
    const nothing = h("tr", {}, h("td", { colspan: this.words.columns.length }, this.words.none));
    replace(this.body, ...(rows.length > 0 ? rows : [nothing]));
  }

  private row(worker: Worker): HTMLElement {
    const { words } = this;
    const link = h("a", { href: `${encodeURIComponent(worker.id)}/change/` }, worker.name);
    const labels = worker.labels.map((label) => h("span", { class: "label", "data-testid": "worker-label" }, label));
    const cells: [string, (Node | string)[] | Node | string][] = [
      ["name", [link, ...labels]],
      ["state", this.state(worker)],
      ["route", words.routes[worker.route] ?? worker.route],
      ["device", worker.device],
      ["models", worker.models.join(", ")],
      ["slots", worker.connected ? words.free(worker.credits, worker.slots) : ""],
      ["job", this.jobs(worker)],
      ["seen", this.seen(worker)],
      ["rtt", worker.rtt_ms === null ? "" : `${worker.rtt_ms.toFixed(1)} ms`],
    ];
    const row = h("tr", {
      "data-testid": "worker-row",
      "data-worker": worker.id,
      "data-connected": worker.connected ? "yes" : "no",
      "data-state": worker.state,
      "data-transport": worker.transport,
    });
    row.append(...cells.map(([name, content]) => h("td", { "data-testid": `worker-${name}` }, ...[content].flat())));
    return row;
  }

  /** In one cell: may it work, does it take jobs, is it there, and by which way. */
  private state(worker: Worker): Node[] {
    const { words } = this;
    const takesJobs = worker.state === "active" && !worker.draining;
    const says =
      worker.state !== "active"
        ? (words.states[worker.state] ?? worker.state)
        : !worker.connected
          ? words.away
          : worker.draining
            ? words.draining
            : words.connected;
    // One that waits for approval waits for whoever reads this.
    const lamp = worker.state === "pending" ? "busy" : !worker.connected ? "off" : takesJobs ? "on" : "busy";
    const cell: Node[] = [h("span", { class: `dot ${lamp}` }, says)];
    if (worker.connected) {
      const isFallback = worker.transport === "https";
      const way = words.transports[worker.transport] ?? worker.transport;
      cell.push(h("small", { class: "way", title: isFallback ? words.fallbackWhy : undefined }, way));
    }
    return cell;
  }

  private jobs(worker: Worker): Node | string {
    if (worker.jobs.length === 0) return worker.connected ? this.words.idle : "";
    const lines = worker.jobs.map((held) => {
      const stage = held.stage ? this.words.stages[held.stage] : "";
      const progress = h("progress", { max: 1, value: held.progress });
      return h("li", {}, progress, `${Math.floor(100 * held.progress)} % ${stage}`, h("code", {}, held.job.slice(-6)));
    });
    return h("ul", { class: "held" }, ...lines);
  }

  private seen(worker: Worker): string {
    if (!worker.last_seen) return "";
    return this.words.ago(Math.max(0, Math.round((Date.now() - Date.parse(worker.last_seen)) / 1000)));
  }
}
