/** The list of studies, with a search over everything that is shown. */

import type { Study } from "../client";
import { h, replace, show } from "./dom";
import { onLanguage, say, sayIn, t } from "./words";

export class StudyList {
  readonly element: HTMLElement;
  private readonly search = h("input", { type: "search", "data-testid": "search" });
  private readonly list = h("ul", { class: "studies", "data-testid": "studies" });
  private readonly nothing = h("p", { class: "hint" });
  private studies: Study[] = [];
  private chosen: string | null = null;

  constructor(private readonly onChoose: (study: Study) => void) {
    sayIn(sayIn(this.search, "placeholder", "search"), "aria-label", "search");
    this.search.addEventListener("input", () => this.draw());
    this.element = h("section", { class: "list" }, this.search, this.list, this.nothing);
    onLanguage(() => this.draw());
  }

  setStudies(studies: Study[]): void {
    this.studies = studies;
    this.draw();
  }

  setChosen(id: string | null): void {
    this.chosen = id;
    this.draw();
  }

  private draw(): void {
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = this.studies.filter((study) => words.every((word) => haystack(study).includes(word)));
    replace(this.list, ...found.map((study) => this.item(study)));
    show(this.nothing, found.length === 0);
    say(this.nothing, this.studies.length === 0 ? "noStudies" : "noMatch");
  }

  private item(study: Study): HTMLElement {
    const button = h(
      "button",
      { type: "button", class: "study", "data-testid": "study", "data-id": study.id },
      h("b", {}, nameOf(study)),
      h("span", {}, [study.patient_id, study.study_date].filter(Boolean).join(" · ")),
      h(
        "span",
        {},
        [descriptionOf(study), t("seriesCount", { count: study.series.length })].filter(Boolean).join(" · "),
      ),
    );
    if (study.id === this.chosen) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => this.onChoose(study));
    return h("li", {}, button);
  }
}

/** DICOM writes a person as FAMILY^GIVEN^MIDDLE, with other scripts after an equals sign. */
export function readableName(name: string | null | undefined): string {
  return (name ?? "").split("=")[0].split("^").filter(Boolean).join(" ");
}

export function nameOf(study: Study): string {
  return readableName(study.patient_name) || study.description || t("unnamed");
}

/** Nothing when the name says it already. */
export function descriptionOf(study: Study): string {
  const description = study.description ?? "";
  return description === nameOf(study) ? "" : description;
}

const haystack = (study: Study): string =>
  [study.patient_name?.replaceAll("^", " "), study.patient_id, study.study_date, study.description, study.id]
    .filter(Boolean)
    .join(" ")
    .toLowerCase();
