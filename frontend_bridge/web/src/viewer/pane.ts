/** One of the four pictures: an engine, the marks a radiologist expects around it, and keys. */

import { apply, type Vec3 } from "../imaging/affine";
import type { Look } from "../imaging/labels";
import { EDGES, frameOf, throughAxis, type Plane } from "../imaging/slice";
import { defaultWindow, nearestVoxel, type Window } from "../imaging/volume";
import type { Sequence } from "../client";
import { h, show, text } from "./dom";
import type { Engine, MakeEngine, Overlay, Picture } from "./engines/engine";
import { listenForWindowing } from "./windowing";
import { say, sayIn, t, unsay } from "./words";

export interface PaneEvents {
  onCrosshair(mm: Vec3): void;
  onEnlarge(): void;
}

/** What a plain drag does. */
export type Tool = "crosshair" | "window";
export type PaneState = "empty" | "loading" | "ready" | "error";

const STEPS: Readonly<Record<string, number>> = { ArrowUp: 1, ArrowDown: -1, PageUp: 5, PageDown: -5 };

export class Pane {
  readonly element: HTMLElement;
  picture: Picture | null = null;
  private engine: Engine | null = null;
  private window: Window = { low: 0, high: 1 };
  private plane: Plane = "axial";
  private isSmooth = true;
  private tool: Tool = "crosshair";
  private mm: Vec3 = [0, 0, 0];
  private readonly stage = h("div", { class: "stage" });
  private readonly notice = h("p", { class: "notice" });
  private readonly description = h("span", { class: "description" });
  private readonly sliceTag = h("span", { class: "tag bottom start" });
  private readonly windowTag = h("span", { class: "tag bottom end" });
  private readonly edges = {
    left: h("span", { class: "edge left" }),
    right: h("span", { class: "edge right" }),
    top: h("span", { class: "edge top" }),
    bottom: h("span", { class: "edge low" }),
  };
  private readonly enlarge = h("button", { class: "enlarge", type: "button", "data-testid": "enlarge" }, "⤢");

  constructor(
    readonly sequence: Sequence,
    private readonly events: PaneEvents,
  ) {
    const title = h("span", { class: "tag top start" }, h("b", {}, sequence), this.description);
    this.element = h(
      "section",
      { class: "pane", tabindex: 0, "data-testid": `pane-${sequence}`, "aria-label": sequence },
      this.stage,
      title,
      this.enlarge,
      this.sliceTag,
      this.windowTag,
      ...Object.values(this.edges),
      this.notice,
    );
    sayIn(sayIn(this.enlarge, "title", "enlarge", { name: sequence }), "aria-label", "enlarge", { name: sequence });
    this.enlarge.addEventListener("click", () => events.onEnlarge());
    this.stage.addEventListener("dblclick", () => events.onEnlarge());
    listenForWindowing(this.stage, {
      isTool: () => this.tool === "window",
      window: () => (this.engine ? this.window : null),
      onWindow: (window) => this.setWindow(window),
    });
    this.element.addEventListener("keydown", (event) => this.press(event));
    this.become("empty");
    say(this.notice, "empty", { name: sequence });
  }

  /** Show a series; the crosshair and the mask are set after. */
  async load(picture: Picture, makeEngine: MakeEngine, description: string): Promise<void> {
    this.clear();
    this.picture = picture;
    this.window = defaultWindow(picture.volume);
    text(this.description, description);
    this.engine = makeEngine(this.stage, {
      onCrosshair: (mm) => this.events.onCrosshair(mm),
    });
    const engine = this.engine;
    await engine.load(picture);
    if (this.engine !== engine) return;
    this.become("ready");
    this.refresh();
  }

  clear(): void {
    this.engine?.dispose();
    this.engine = null;
    this.picture = null;
    text(this.description, "");
    this.become("empty");
    say(this.notice, "empty", { name: this.sequence });
  }

  showLoading(fraction: number | null): void {
    this.become("loading");
    say(this.notice, "loading", { percent: fraction === null ? "" : `${Math.round(100 * fraction)} %` });
  }

  showError(reason: string): void {
    this.become("error");
    unsay(this.notice);
    text(this.notice, t("loadFailed", { reason }));
  }

  setMask(overlay: Overlay | null, look: Look): void {
    this.engine?.setMask(overlay, look);
  }

  setCrosshair(mm: Vec3): void {
    this.mm = mm;
    this.engine?.setCrosshair(mm);
    this.mark();
  }

  setView(plane: Plane, isSmooth: boolean, tool: Tool): void {
    this.plane = plane;
    this.isSmooth = isSmooth;
    this.tool = tool;
    this.refresh();
  }

  resetWindow(): void {
    if (this.picture) this.setWindow(defaultWindow(this.picture.volume));
  }

  /** Go `slices` up or down in this series' own slices. */
  step(slices: number): void {
    if (!this.picture) return;
    const { volume } = this.picture;
    const axis = throughAxis(this.plane);
    const voxel = nearestVoxel(volume, this.mm);
    voxel[axis] = Math.min(volume.dims[axis] - 1, Math.max(0, voxel[axis] + slices));
    this.events.onCrosshair(apply(volume.affine, voxel));
  }

  /** This series' slice under the crosshair, and how many there are. */
  get slice(): { at: number; count: number } | null {
    if (!this.picture) return null;
    const at = nearestVoxel(this.picture.volume, this.mm)[throughAxis(this.plane)];
    return { at, count: frameOf(this.picture.volume, this.plane).slices };
  }

  private setWindow(window: Window): void {
    this.window = window;
    this.refresh();
  }

  private refresh(): void {
    this.engine?.setView({ plane: this.plane, window: this.window, isSmooth: this.isSmooth });
    this.mark();
  }

  private mark(): void {
    const slice = this.slice;
    const letters = EDGES[this.plane];
    for (const side of ["left", "right", "top", "bottom"] as const) text(this.edges[side], slice ? letters[side] : "");
    text(this.sliceTag, slice ? `${slice.at + 1} / ${slice.count}` : "");
    const { low, high } = this.window;
    text(this.windowTag, slice ? t("readings", { width: figure(high - low), level: figure((low + high) / 2) }) : "");
    if (slice)
      Object.assign(this.element.dataset, { slice: String(slice.at), slices: String(slice.count), plane: this.plane });
    Object.assign(this.element.dataset, { windowLow: String(low), windowHigh: String(high) });
  }

  private become(state: PaneState): void {
    this.element.dataset["state"] = state;
    show(this.notice, state !== "ready");
    show(this.enlarge, state === "ready");
    if (state !== "ready") this.mark();
  }

  private press(event: KeyboardEvent): void {
    const slices = STEPS[event.key];
    if (slices === undefined) {
      if (event.key === "Enter") this.events.onEnlarge();
      return;
    }
    event.preventDefault();
    this.step(slices);
  }
}

const figure = (value: number): string =>
  Math.abs(value) >= 10 || value === 0 ? String(Math.round(value)) : value.toPrecision(2);
