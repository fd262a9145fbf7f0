/** The result card: what was found in mL, how the mask is shown, and the files. */

import { REGIONS, type Archive, type Archives, type Job, type Region, type Report } from "../client";
import { LABELS, labelColour, type Label, type Look } from "../imaging/labels";
import { h, replace, show } from "./dom";
import { MeasuresPanel } from "./measures";
import { SendingList } from "./sending";
import { say, sayIn, onLanguage, t, type Key } from "./words";

const MADE_OF: Record<Region, readonly Label[]> = { WT: [1, 2, 3], TC: [1, 3], ET: [3] };

export interface ResultEvents {
  onLook(look: Look): void;
  onShowLesion(): void;
}

export class ResultCard {
  readonly element: HTMLElement;
  look: Look = { opacity: 0.4, style: "fill", hidden: new Set() };
  private readonly volumes = h("table", { class: "volumes", "data-testid": "volumes" });
  private readonly legend = h("ul", { class: "legend", "data-testid": "legend" });
  private readonly opacity = h("input", { type: "range", min: 0, max: 100, value: 40, "data-testid": "opacity" });
  private readonly files = h("ul", { class: "files", "data-testid": "downloads" });
  private readonly preliminary = h("p", { class: "hint", "data-testid": "preliminary" });
  private readonly finding = h("p", { class: "hint", "data-testid": "nothing-found" });
  private readonly lesion = h("button", { type: "button", class: "quiet", "data-testid": "show-lesion" });
  private readonly styles: HTMLButtonElement[];
  private readonly measures = new MeasuresPanel();
  private readonly sending: SendingList;
  private job: Job | null = null;

  constructor(
    private readonly events: ResultEvents,
    archives: Archives,
  ) {
    this.sending = new SendingList(archives);
    sayIn(this.opacity, "aria-label", "opacity").addEventListener("input", () =>
      this.change({ opacity: Number(this.opacity.value) / 100 }),
    );
    this.styles = (["fill", "outline"] as const).map((style) => {
      const button = say(h("button", { type: "button", "data-testid": `style-${style}` }), style);
      button.addEventListener("click", () => this.change({ style }));
      return button;
    });
    say(this.lesion, "showLesion").addEventListener("click", () => events.onShowLesion());
    this.element = h(
      "section",
      { class: "card", "data-testid": "result" },
      h("div", { class: "line" }, say(h("h2"), "results"), this.lesion),
      say(this.preliminary, "preliminary"),
      say(this.finding, "nothingFound"),
      this.volumes,
      this.measures.element,
      this.legend,
      h("div", { class: "row" }, h("div", { class: "group" }, ...this.styles), this.opacity),
      this.files,
      this.sending.element,
    );
    this.legend.append(...LABELS.map((label) => this.legendRow(label)));
    onLanguage(() => this.drawVolumes());
    this.change({});
    this.clear();
  }

  setServers(servers: Archive[]): void {
    this.sending.setServers(servers);
  }

  clear(): void {
    this.job = null;
    this.setReport(null);
    this.sending.setJob(null);
    show(this.element, false);
  }

  /** Labels are on screen that are not the answer yet. */
  showPreview(): void {
    show(this.element, true);
    show(this.preliminary, true);
    for (const part of [this.finding, this.volumes, this.files, this.lesion]) show(part, false);
  }

  /** What report.json says; null: not known yet. */
  setReport(report: Report | null): void {
    this.measures.setReport(report);
  }

  showResult(job: Job): void {
    if (!job.result) return;
    this.job = job;
    show(this.element, true);
    show(this.preliminary, false);
    show(this.finding, job.result.volumes_ml.WT === 0);
    for (const part of [this.volumes, this.files, this.lesion]) show(part, true);
    show(this.lesion, job.result.volumes_ml.WT > 0);
    this.drawVolumes();
    this.drawFiles(job);
    this.sending.setJob(job);
  }

  private drawVolumes(): void {
    const volumes = this.job?.result?.volumes_ml;
    if (!volumes) return;
    const format = new Intl.NumberFormat(document.documentElement.lang, {
      minimumFractionDigits: 1,
      maximumFractionDigits: 1,
    });
    const rows = REGIONS.map((region) =>
      h(
        "tr",
        {},
        h("th", { scope: "row" }, t(region), h("small", {}, region)),
        h("td", {}, ...MADE_OF[region].map(swatch)),
        h(
          "td",
          { class: "figure", "data-testid": `volume-${region}`, "data-ml": volumes[region] },
          `${format.format(volumes[region])} mL`,
        ),
      ),
    );
    replace(this.volumes, h("tbody", {}, ...rows));
  }

  private drawFiles(job: Job): void {
    const result = job.result;
    if (!result) return;
    const links: [Key, string | null | undefined, string][] = [
      ["maskFile", result.mask_url, "mask"],
      ["segFile", result.seg_url, "seg"],
      ["srFile", result.sr_url, "sr"],
      ["pdfFile", result.pdf_url, "pdf"],
      ["reportFile", result.report_url, "report"],
    ];
    const items = links.filter(([, url]) => url).map(([key, url, name]) => download(url ?? "", name, key));
    const keys = result.key_image_urls ?? [];
    items.push(...keys.map((url, index) => download(url, `key-${index + 1}`, "keyImage", { number: index + 1 })));
    replace(this.files, ...items);
  }

  private legendRow(label: Label): HTMLElement {
    const box = h("input", { type: "checkbox", checked: true, "data-testid": `label-${label}` });
    box.addEventListener("change", () => {
      const hidden = new Set(this.look.hidden);
      if (box.checked) hidden.delete(label);
      else hidden.add(label);
      this.change({ hidden });
    });
    return h("li", {}, h("label", {}, box, swatch(label), say(h("span"), `label${label}`)));
  }

  private change(changes: Partial<Look>): void {
    this.look = { ...this.look, ...changes };
    this.styles.forEach((button, index) =>
      button.setAttribute("aria-pressed", String((index === 0) === (this.look.style === "fill"))),
    );
    this.events.onLook(this.look);
  }
}

function swatch(label: Label): HTMLElement {
  const patch = h("i", { class: "swatch" });
  patch.style.backgroundColor = `rgb(${labelColour(label).join(" ")})`;
  return patch;
}

function download(url: string, name: string, key: Key, values: Record<string, number> = {}): HTMLElement {
  return h("li", {}, say(h("a", { href: url, download: true, "data-testid": `download-${name}` }), key, values));
}
