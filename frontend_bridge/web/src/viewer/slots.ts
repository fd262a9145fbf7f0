/** Which series stands for which sequence: as the server proposes, until a person chooses otherwise. */

import { SEQUENCES, type Sequence, type Series, type Study } from "../client";
import { h, redraw } from "./dom";
import { onLanguage, t } from "./words";

export type Slots = Record<Sequence, Series | null>;

export const NO_SLOTS: Slots = { T1: null, T1CE: null, T2: null, FLAIR: null };

/** The server's proposal; without one, the most certain series of each sequence. */
export function proposedSlots(study: Study): Slots {
  const { proposal } = study;
  if (!proposal) return recognisedSlots(study);
  const named = (sequence: Sequence): Series | null =>
    study.series.find((one) => one.id === proposal.series[sequence]) ?? null;
  return bySequence(named);
}

/** The most certain series of each sequence; of two as certain, the one with more voxels. */
export function recognisedSlots(study: Study): Slots {
  return bySequence((sequence) => {
    const fitting = study.series.filter((one) => one.sequence === sequence);
    fitting.sort((one, other) => other.sequence_confidence - one.sequence_confidence || voxels(other) - voxels(one));
    return fitting[0] ?? null;
  });
}

/** What a person chose stays as long as the series is there and nobody has said that it is something else. */
export function keptSlots(study: Study, chosen: Partial<Slots>): Slots {
  const proposed = proposedSlots(study);
  return bySequence((sequence) => {
    if (!(sequence in chosen)) return proposed[sequence];
    const kept = study.series.find((one) => one.id === chosen[sequence]?.id);
    if (!kept) return chosen[sequence] ? proposed[sequence] : null;
    return kept.sequence === null || kept.sequence === sequence ? kept : proposed[sequence];
  });
}

export const missingOf = (slots: Slots): Sequence[] => SEQUENCES.filter((sequence) => slots[sequence] === null);

/** The ids in the order of the sequences. */
export const idsOf = (slots: Slots): string[] =>
  SEQUENCES.map((sequence) => slots[sequence]?.id).filter((id) => id !== undefined);

/** Whether two sequences have the same series. */
export const isClash = (slots: Slots): boolean => new Set(idsOf(slots)).size < idsOf(slots).length;

const bySequence = (find: (sequence: Sequence) => Series | null): Slots => ({
  T1: find("T1"),
  T1CE: find("T1CE"),
  T2: find("T2"),
  FLAIR: find("FLAIR"),
});

const voxels = (series: Series): number => series.shape.reduce((count, size) => count * size, 1);

export class SlotPicker {
  readonly element = h("div", { class: "slots" });
  private study: Study | null = null;
  private chosen: Partial<Slots> = {};
  slots: Slots = NO_SLOTS;

  constructor(private readonly onChoose: (sequence: Sequence, series: Series | null) => void) {
    onLanguage(() => this.draw());
  }

  setStudy(study: Study): void {
    if (this.study?.id !== study.id) this.chosen = {};
    this.study = study;
    this.slots = keptSlots(study, this.chosen);
    this.draw();
  }

  private draw(): void {
    const series = this.study?.series;
    if (series) redraw(this.element, ...SEQUENCES.map((sequence) => this.row(sequence, series)));
  }

  private row(sequence: Sequence, series: Series[]): HTMLElement {
    const select = h("select", { "data-testid": `slot-${sequence}`, "data-key": sequence, "aria-label": sequence });
    select.append(h("option", { value: "" }, t("choose")));
    for (const one of series) select.append(h("option", { value: one.id }, describe(one, series)));
    select.value = this.slots[sequence]?.id ?? "";
    select.classList.toggle("missing", select.value === "");
    select.addEventListener("change", () => {
      const found = series.find((one) => one.id === select.value) ?? null;
      this.chosen = { ...this.chosen, [sequence]: found };
      this.slots = { ...this.slots, [sequence]: found };
      select.classList.toggle("missing", found === null);
      this.onChoose(sequence, found);
    });
    return h("label", {}, h("b", {}, sequence), select);
  }
}

/** The description; with the size beside it only where two would look the same. */
export function describe(series: Series, all: readonly Series[]): string {
  const name = series.description || series.sequence || series.uid.slice(-8);
  const isAlone = all.filter((one) => one.description === series.description).length === 1;
  return isAlone ? name : `${name} · ${series.shape.join("×")}`;
}
