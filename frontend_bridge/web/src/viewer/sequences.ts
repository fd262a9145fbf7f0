/** The "Sequences" card: four slots, what is doubtful or missing, every series, and what was set aside. */

import type { Sequence, Series, Study } from "../client";
import { AsideList } from "./aside";
import { h, show, text } from "./dom";
import { Doubts } from "./doubts";
import { SeriesList } from "./series";
import { SlotPicker, isClash, missingOf, type Slots } from "./slots";
import { onLanguage, say, t } from "./words";

export interface SequencesEvents {
  /** Another series stands for a sequence. */
  onSlots(slots: Slots): void;
  /** A person says what some series are. */
  onCorrect(corrections: { series: Series; sequence: Sequence | null }[]): void;
}

export class SequencesCard {
  readonly element: HTMLElement;
  private readonly picker: SlotPicker;
  private readonly doubts: Doubts;
  private readonly list: SeriesList;
  private readonly aside = new AsideList("setAside", "set-aside");
  private readonly hint = h("p", { class: "hint", "data-testid": "slots-hint" });
  private readonly trouble = h("p", { class: "bad", role: "alert", "data-testid": "sequence-trouble" });

  constructor(events: SequencesEvents) {
    this.picker = new SlotPicker((sequence, series) => {
      this.drawHint();
      events.onSlots(this.slots);
      if (series && series.sequence !== sequence) events.onCorrect([{ series, sequence }]);
    });
    this.doubts = new Doubts((corrections) => events.onCorrect(corrections));
    this.list = new SeriesList((series, sequence) => events.onCorrect([{ series, sequence }]));
    this.element = h(
      "section",
      { class: "card", "data-testid": "sequences" },
      say(h("h2"), "sequences"),
      this.picker.element,
      this.hint,
      this.trouble,
      this.doubts.element,
      this.list.element,
      this.aside.element,
    );
    this.setTrouble(null);
    onLanguage(() => this.drawHint());
  }

  get slots(): Slots {
    return this.picker.slots;
  }

  setStudy(study: Study): void {
    this.picker.setStudy(study);
    this.doubts.setStudy(study);
    this.list.setStudy(study);
    this.aside.setFiles(study.set_aside ?? []);
    this.drawHint();
  }

  setTrouble(sentence: string | null): void {
    text(this.trouble, sentence ?? "");
    show(this.trouble, sentence !== null);
  }

  private drawHint(): void {
    const missing = missingOf(this.slots);
    const isTwice = isClash(this.slots);
    show(this.hint, isTwice || missing.length > 0);
    text(this.hint, isTwice ? t("sameTwice") : t("missingHere", { names: missing.join(", ") }));
  }
}
