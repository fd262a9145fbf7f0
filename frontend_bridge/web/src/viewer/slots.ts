/** Which series is which sequence: as recognised, and by hand where it was not. */

import { SEQUENCES, type Sequence, type Series, type Study } from "../client";
import { h, replace, show } from "./dom";
import { onLanguage, say, t } from "./words";

export type Slots = Record<Sequence, Series | null>;

/** The most certain series of each sequence; of two as certain, the one with more voxels. */
export function recognisedSlots(study: Study): Slots {
  const best = (sequence: Sequence): Series | null => {
    const fitting = study.series.filter((one) => one.sequence === sequence);
    fitting.sort((one, other) => other.sequence_confidence - one.sequence_confidence || voxels(other) - voxels(one));
    return fitting[0] ?? null;
  };
  return { T1: best("T1"), T1CE: best("T1CE"), T2: best("T2"), FLAIR: best("FLAIR") };
}

const voxels = (series: Series): number => series.shape.reduce((count, size) => count * size, 1);

export class SlotPicker {
  readonly element: HTMLElement;
  private readonly rows = h("div", { class: "slots" });
  private readonly hint = h("p", { class: "hint", "data-testid": "slots-hint" });
  private study: Study | null = null;
  slots: Slots = { T1: null, T1CE: null, T2: null, FLAIR: null };

  constructor(private readonly onChange: (sequence: Sequence, slots: Slots) => void) {
    this.element = h("section", { class: "card" }, say(h("h2"), "sequences"), this.rows, this.hint);
    onLanguage(() => this.draw());
  }

  setStudy(study: Study): void {
    const isSame = this.study?.id === study.id;
    const found = recognisedSlots(study);
    const kept = (sequence: Sequence): Series | null =>
      study.series.find((one) => isSame && one.id === this.slots[sequence]?.id) ?? found[sequence];
    this.study = study;
    this.slots = { T1: kept("T1"), T1CE: kept("T1CE"), T2: kept("T2"), FLAIR: kept("FLAIR") };
    this.draw();
  }

  /** The four ids in the order of the sequences, or null while one is missing. */
  get ids(): string[] | null {
    const ids = SEQUENCES.map((sequence) => this.slots[sequence]?.id);
    return ids.every((id) => id !== undefined) ? (ids as string[]) : null;
  }

  /** Whether each sequence has a series of its own. */
  get isComplete(): boolean {
    return new Set(this.ids).size === SEQUENCES.length;
  }

  private draw(): void {
    if (!this.study) return;
    replace(this.rows, ...SEQUENCES.map((sequence) => this.row(sequence, this.study?.series ?? [])));
    show(this.hint, !this.isComplete);
    say(this.hint, this.ids ? "sameTwice" : "needFour");
  }

  private row(sequence: Sequence, series: Series[]): HTMLElement {
    const select = h("select", { "data-testid": `slot-${sequence}`, "aria-label": sequence });
    select.append(h("option", { value: "" }, t("choose")));
    for (const one of series) select.append(h("option", { value: one.id }, describe(one, series)));
    select.value = this.slots[sequence]?.id ?? "";
    select.classList.toggle("missing", select.value === "");
    select.addEventListener("change", () => {
      this.slots[sequence] = series.find((one) => one.id === select.value) ?? null;
      this.draw();
      this.onChange(sequence, this.slots);
    });
    return h("label", {}, h("b", {}, sequence), select);
  }
}

/** The description; with the size beside it only where two would look the same. */
function describe(series: Series, all: readonly Series[]): string {
  const name = series.description || series.sequence || series.uid.slice(-8);
  const isAlone = all.filter((one) => one.description === series.description).length === 1;
  return isAlone ? name : `${name} · ${series.shape.join("×")}`;
}
