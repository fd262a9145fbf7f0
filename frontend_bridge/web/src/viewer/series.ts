/** Every series of the study: what it was recognised as, why, and a menu to say what it is. */

import { SEQUENCES, type Sequence, type Series, type Study } from "../client";
import { h, redraw, show } from "./dom";
import { describe } from "./slots";
import { told } from "./told";
import { onLanguage, say, sayIn, t, type Key } from "./words";

const SOURCES: Record<string, Key> = { header: "by_header", name: "by_name", voxels: "by_voxels", person: "by_person" };

/** How it is known which sequence this is, in words. */
export function sourceOf(series: Series): string {
  const key = SOURCES[series.sequence_source ?? ""] ?? (series.sequence ? "by_header" : "by_nobody");
  return t(key, { percent: Math.round(100 * series.sequence_confidence) });
}

export class SeriesList {
  readonly element: HTMLDetailsElement;
  private readonly title = h("summary");
  private readonly list = h("ul", { class: "all-series", "data-testid": "all-series" });
  private study: Study | null = null;

  constructor(private readonly onCorrect: (series: Series, sequence: Sequence | null) => void) {
    this.element = h("details", {}, this.title, this.list);
    onLanguage(() => this.draw());
  }

  setStudy(study: Study): void {
    if (this.study?.id !== study.id) this.element.open = false;
    this.study = study;
    this.draw();
  }

  private draw(): void {
    const series = this.study?.series ?? [];
    show(this.element, series.length > 0);
    say(this.title, "allSeries", { count: series.length });
    redraw(this.list, ...series.map((one) => this.row(one, series)));
  }

  private row(series: Series, all: Series[]): HTMLElement {
    const name = describe(series, all);
    const menu = h("select", { "data-testid": "series-sequence", "data-key": series.id });
    sayIn(menu, "aria-label", "sequenceOf", { name });
    menu.append(
      h("option", { value: "" }, t("noneOfFour")),
      ...SEQUENCES.map((one) => h("option", { value: one }, one)),
    );
    menu.value = series.sequence ?? "";
    menu.addEventListener("change", () => this.onCorrect(series, (menu.value || null) as Sequence | null));
    const reason = series.sequence_reason ? h("p", { class: "why" }, told(series.sequence_reason)) : null;
    return h(
      "li",
      { "data-testid": "series", "data-series": series.id, "data-sequence": series.sequence ?? "" },
      h("div", { class: "line" }, h("span", { class: "name" }, name), menu),
      h("p", { class: "by", "data-testid": "series-source" }, sourceOf(series)),
      reason,
    );
  }
}
