/** Measurements and notes of a finished analysis, in plain words: diameters, change, alignment, brain, warnings. */

import { REGIONS, type Aligned, type Grown, type Report } from "../client";
import { h, replace, show } from "./dom";
import { told } from "./told";
import { currentLanguage, onLanguage, say, t, type Key } from "./words";

const ALIGNED: Record<string, Key> = { none: "aligned_none", headers: "aligned_headers", rigid: "aligned_rigid" };
const BRAINS: Record<string, Key> = {
  given: "brain_given",
  network: "brain_network",
  classical: "brain_classical",
  none: "brain_none",
};
const DIAMETERS = [
  ["largest_axial_diameter_mm", "inAxial"],
  ["perpendicular_diameter_mm", "atRightAngles"],
  ["largest_diameter_mm", "inSpace"],
] as const;

/** `+1.5 mL (+12 %)`; the per cent only where there was something before. */
export function changed(change: Grown): string {
  const signed = (value: number, digits: number): string => figure(value, digits, "exceptZero");
  const percent = change.percent === null ? "" : ` (${signed(change.percent, 0)} %)`;
  return `${signed(change.ml, 1)} mL${percent}`;
}

/** How one sequence came to lie on the reference. */
export function alignedLine(one: Aligned): string {
  const key = ALIGNED[one.method];
  const values = { name: one.sequence, shift: figure(one.shift_mm, 1), turn: figure(one.rotation_degrees, 1) };
  const line = key ? t(key, values) : `${one.sequence}: ${one.method}`;
  const fit = one.similarity === null ? "" : t("fit", { percent: Math.round(100 * one.similarity) });
  return [line, fit].filter(Boolean).join(" · ");
}

export function dayOf(since: string): string {
  const day = new Date(`${since.slice(0, 10)}T12:00:00`);
  return Number.isNaN(day.getTime())
    ? since
    : new Intl.DateTimeFormat(currentLanguage(), { dateStyle: "medium" }).format(day);
}

export class MeasuresPanel {
  readonly element = h("div", { class: "notes", "data-testid": "measures" });
  private readonly findings = h("div", { class: "notes" });
  private readonly making = h("div", { class: "notes" });
  private readonly how = h("details", { "data-testid": "how" }, say(h("summary"), "howMade"), this.making);
  private report: Report | null = null;

  constructor() {
    this.element.append(this.findings, this.how);
    onLanguage(() => this.draw());
    this.draw();
  }

  setReport(report: Report | null): void {
    this.report = report;
    this.draw();
  }

  private draw(): void {
    const report = this.report;
    const findings = report ? [diameters(report), change(report), notes(report)] : [];
    const making = report ? [alignment(report), brain(report)] : [];
    const isEmpty = (parts: (HTMLElement | null)[]): boolean => parts.every((part) => part === null);
    replace(this.findings, ...findings);
    replace(this.making, ...making);
    show(this.findings, !isEmpty(findings));
    show(this.how, !isEmpty(making));
    show(this.element, !isEmpty([...findings, ...making]));
  }
}

function diameters({ measurements }: Report): HTMLElement | null {
  const found = REGIONS.filter((region) => DIAMETERS.some(([field]) => measurements?.[region]?.[field] != null));
  if (found.length === 0) return null;
  const head = h("tr", {}, h("td"), ...DIAMETERS.map(([, key]) => say(h("th", { scope: "col" }), key)));
  const rows = found.map((region) => {
    const cells = DIAMETERS.map(([field]) => {
      const value = measurements?.[region]?.[field] ?? null;
      return h("td", { class: "figure" }, value === null ? "–" : figure(value, 1));
    });
    return h(
      "tr",
      { "data-testid": `diameters-${region}` },
      h("th", { scope: "row", title: t(region) }, region),
      ...cells,
    );
  });
  return section("diameters", h("table", { class: "volumes" }, h("tbody", {}, head, ...rows)));
}

function change({ change }: Report): HTMLElement | null {
  const rows = REGIONS.flatMap((region) => {
    const grown = change?.regions?.[region];
    if (!grown) return [];
    const before = grown.before_ml === undefined ? "" : `${figure(grown.before_ml, 1)} mL`;
    return h(
      "tr",
      { "data-testid": `change-${region}` },
      h("th", { scope: "row", title: t(region) }, region),
      h("td", {}, before),
      h("td", { class: "figure" }, changed(grown)),
    );
  });
  if (!change || rows.length === 0) return null;
  const title = h("h3", {}, t("changeSince", { date: dayOf(change.since) }));
  const note = change.note ? h("p", { class: "why" }, told(change.note)) : null;
  return h("section", {}, title, h("table", { class: "volumes" }, h("tbody", {}, ...rows)), note ?? "");
}

function alignment({ alignment }: Report): HTMLElement | null {
  if (!alignment?.length) return null;
  return section(
    "alignment",
    h("ul", { "data-testid": "alignment" }, ...alignment.map((one) => h("li", {}, alignedLine(one)))),
  );
}

function brain({ brain }: Report): HTMLElement | null {
  const key = brain ? BRAINS[brain.method] : undefined;
  if (!brain || !key) return null;
  return section("brain", h("p", { "data-testid": "brain" }, t(key, { ml: figure(brain.volume_ml, 0) })));
}

function notes({ warnings }: Report): HTMLElement | null {
  if (!warnings?.length) return null;
  return section(
    "notes",
    h("ul", { class: "warnings", "data-testid": "warnings" }, ...warnings.map((one) => h("li", {}, told(one)))),
  );
}

const section = (key: Key, content: HTMLElement): HTMLElement => h("section", {}, say(h("h3"), key), content);

const figure = (value: number, digits: number, signDisplay: "auto" | "exceptZero" = "auto"): string =>
  new Intl.NumberFormat(currentLanguage(), {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
    signDisplay,
  }).format(value);
