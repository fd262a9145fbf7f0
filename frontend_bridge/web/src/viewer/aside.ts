/** Files that are no scans or could not be read: folded away, with the reason of each. */

import type { Refused, SetAside } from "../client";
import { h, replace, show } from "./dom";
import { told } from "./told";
import { onLanguage, say, t, type Key } from "./words";

export class AsideList {
  readonly element: HTMLDetailsElement;
  private readonly title = h("summary");
  private readonly list = h("ul", { class: "aside" });
  private files: (SetAside | Refused)[] = [];

  constructor(
    private readonly heading: Extract<Key, "setAside" | "notRead">,
    testId: string,
  ) {
    this.element = h("details", { "data-testid": testId }, this.title, this.list);
    onLanguage(() => this.draw());
    this.draw();
  }

  setFiles(files: readonly (SetAside | Refused)[]): void {
    if (JSON.stringify(files) === JSON.stringify(this.files)) return;
    this.files = [...files];
    this.element.open = false;
    this.draw();
  }

  private draw(): void {
    show(this.element, this.files.length > 0);
    say(this.title, this.heading, { count: this.files.reduce((sum, one) => sum + countOf(one), 0) });
    replace(this.list, ...this.files.map(row));
  }
}

const countOf = (one: SetAside | Refused): number => ("files" in one ? one.files : 1);

function row(one: SetAside | Refused): HTMLElement {
  const count = countOf(one);
  const name = count > 1 ? `${one.filename} · ${t("fileCount", { count })}` : one.filename;
  return h(
    "li",
    { "data-code": one.code },
    h("b", {}, name),
    h("span", { title: one.detail }, told(one.detail, one.code)),
  );
}
