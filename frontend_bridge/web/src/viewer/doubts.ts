/** Series that are perhaps not the sequence they are given as: a sentence each, and one click that settles it. */

import { SEQUENCES, type Sequence, type Series, type Study } from "../client";
import { h, replace, show } from "./dom";
import { told } from "./told";
import { onLanguage, say, t, type Key } from "./words";

export interface Correction {
  series: Series;
  sequence: Sequence;
}

export interface Doubt {
  sentence: string;
  /** What would put it right; empty where the sentence does not say. */
  right: Correction[];
  /** What says that it was right as it is. */
  keep: Correction[];
}

const PAIR = /given as (\w+) looks like (\w+), and the one given as \2 like \1\b/;
const ONE = /given as (\w+) looks like (\w+)/;

/** The doubts of a study's proposal. */
export function doubtsOf(study: Study): Doubt[] {
  return (study.proposal?.warnings ?? []).map((sentence) => doubtOf(sentence, study));
}

function doubtOf(sentence: string, study: Study): Doubt {
  const pair = PAIR.exec(sentence);
  const [, given, like] = pair ?? ONE.exec(sentence) ?? [];
  if (!isSequence(given) || !isSequence(like)) return { sentence, right: [], keep: [] };
  const one = seriesFor(given, study);
  const other = pair ? seriesFor(like, study) : null;
  if (!one || (pair && !other)) return { sentence, right: [], keep: [] };
  const swapped: Correction[] = other ? [{ series: other, sequence: given }] : [];
  const kept: Correction[] = other ? [{ series: other, sequence: like }] : [];
  return {
    sentence,
    right: [{ series: one, sequence: like }, ...swapped],
    keep: [{ series: one, sequence: given }, ...kept],
  };
}

const isSequence = (name: string | undefined): name is Sequence => SEQUENCES.includes(name as Sequence);

const seriesFor = (sequence: Sequence, study: Study): Series | null =>
  study.series.find((one) => one.id === study.proposal?.series[sequence]) ?? null;

export class Doubts {
  readonly element = h("ul", { class: "doubts", role: "status", "data-testid": "doubts" });
  private doubts: Doubt[] = [];

  constructor(private readonly onCorrect: (corrections: Correction[]) => void) {
    onLanguage(() => this.draw());
    show(this.element, false);
  }

  setStudy(study: Study): void {
    this.doubts = doubtsOf(study);
    this.draw();
  }

  private draw(): void {
    show(this.element, this.doubts.length > 0);
    replace(this.element, ...this.doubts.map((doubt) => this.row(doubt)));
  }

  private row({ sentence, right, keep }: Doubt): HTMLElement {
    const row = h("li", { "data-testid": "doubt" }, h("span", { title: sentence }, lineOf(sentence, right, keep)));
    if (right.length > 0) {
      const isPair = right.length > 1;
      const set = this.button("doubt-set", right, isPair ? "swapThem" : "setTo");
      row.append(h("div", { class: "row" }, set, this.button("doubt-keep", keep, isPair ? "keepBoth" : "keepAs")));
    }
    return row;
  }

  private button(testId: string, corrections: Correction[], key: Key): HTMLElement {
    const button = h("button", { type: "button", "data-testid": testId });
    button.addEventListener("click", () => this.onCorrect(corrections));
    return say(button, key, { sequence: corrections[0].sequence });
  }
}

function lineOf(sentence: string, right: Correction[], keep: Correction[]): string {
  if (right.length === 0) return told(sentence);
  const names = { given: keep[0].sequence, like: right[0].sequence };
  return t(right.length > 1 ? "swappedPair" : "swapped", names);
}
