/** Series that are perhaps not the sequence they are given as: a sentence each, and one click that settles it. */

import { SEQUENCES, type Sequence, type Series, type Study } from "../client";
import { h, replace, show } from "./dom";
import { told } from "./told";
import { onLanguage, say, t } from "./words";

export interface Doubt {
  sentence: string;
  /** Whose sequence is doubted; null where the sentence is of no single series. */
  series: Series | null;
  /** What it looks like, if the sentence says so. */
  like: Sequence | null;
}

const LOOKS_LIKE = /looks like (?:an? )?(T1CE|T1|T2|FLAIR)\b/;

/** The doubts of a study's proposal. */
export function doubtsOf(study: Study): Doubt[] {
  return (study.proposal?.warnings ?? []).map((sentence) => {
    const like = LOOKS_LIKE.exec(sentence)?.[1] as Sequence | undefined;
    const series = study.series.find((one) => one.sequence_reason === sentence) ?? null;
    return { sentence, series, like: like && SEQUENCES.includes(like) ? like : null };
  });
}

export class Doubts {
  readonly element = h("ul", { class: "doubts", role: "status", "data-testid": "doubts" });
  private doubts: Doubt[] = [];

  constructor(private readonly onCorrect: (series: Series, sequence: Sequence) => void) {
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

  private row({ sentence, series, like }: Doubt): HTMLElement {
    const given = series?.sequence ?? null;
    const isSwap = series !== null && given !== null && like !== null && like !== given;
    const line = isSwap ? t("swapped", { given, like }) : told(sentence);
    const row = h("li", { "data-testid": "doubt" }, h("span", { title: sentence }, line));
    if (isSwap) row.append(h("div", { class: "row" }, this.button(series, like, "setTo"), this.button(series, given, "keepAs")));
    else if (series && given) row.append(h("div", { class: "row" }, this.button(series, given, "keepAs")));
    return row;
  }

  private button(series: Series, sequence: Sequence, key: "setTo" | "keepAs"): HTMLElement {
    const button = say(h("button", { type: "button", "data-testid": `doubt-${key}` }), key, { sequence });
    button.addEventListener("click", () => this.onCorrect(series, sequence));
    return button;
  }
}
