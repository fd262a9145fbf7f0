/** The four pictures: one crosshair in patient space, one plane, one mask over all of them. */

import { SEQUENCES, type SegmentationClient, type Sequence, type Series } from "../client";
import type { Vec3 } from "../imaging/affine";
import type { Look } from "../imaging/labels";
import { readNifti } from "../imaging/nifti";
import { PLANES, type Plane } from "../imaging/slice";
import { centre, closestRas } from "../imaging/volume";
import { h, show, text } from "./dom";
import type { MakeEngine, Overlay, Picture } from "./engines/engine";
import { Pane, type Tool } from "./pane";
import { sentenceOf } from "./sentences";
import type { Slots } from "./slots";
import { say, sayIn } from "./words";

export class PaneGrid {
  readonly element: HTMLElement;
  private readonly panes: Record<Sequence, Pane>;
  private readonly grid: HTMLElement;
  private readonly slider = h("input", { type: "range", min: 0, max: 0, "data-testid": "slice-slider" });
  private readonly point = h("span", { class: "point" });
  private readonly pictures = new Map<string, Promise<Picture>>();
  private shown: Record<Sequence, string | null> = { T1: null, T1CE: null, T2: null, FLAIR: null };
  private loads = new AbortController();
  private plane: Plane = "axial";
  private tool: Tool = "crosshair";
  private isSmooth = true;
  private mm: Vec3 | null = null;
  private overlay: Overlay | null = null;
  private look: Look = { opacity: 0.4, style: "fill", hidden: new Set() };
  /** Whether the person has moved the crosshair since the study was opened. */
  isTouched = false;

  constructor(
    private readonly client: SegmentationClient,
    private readonly makeEngine: MakeEngine,
  ) {
    const make = (sequence: Sequence): Pane =>
      new Pane(sequence, { onCrosshair: (mm) => this.moveTo(mm), onEnlarge: () => this.toggleEnlarged(sequence) });
    this.panes = { T1: make("T1"), T1CE: make("T1CE"), T2: make("T2"), FLAIR: make("FLAIR") };
    this.grid = h("div", { class: "panes", "data-testid": "panes" }, ...this.all.map((pane) => pane.element));
    const foot = h("footer", { class: "foot" }, say(h("span"), "keys"), this.point);
    this.element = h("section", { class: "viewer" }, this.toolbar(), this.grid, foot);
  }

  /** Load what is not shown yet; panes whose series stays keep their picture. */
  async setSlots(slots: Slots): Promise<void> {
    await Promise.all(SEQUENCES.map((sequence) => this.fill(sequence, slots[sequence])));
  }

  /** Another study: forget every picture of the last one. */
  reset(): void {
    this.loads.abort();
    this.loads = new AbortController();
    this.pictures.clear();
    this.shown = { T1: null, T1CE: null, T2: null, FLAIR: null };
    this.mm = null;
    this.isTouched = false;
    this.overlay = null;
    for (const pane of this.all) pane.clear();
    this.mark();
  }

  setMask(overlay: Overlay | null): void {
    this.overlay = overlay;
    this.dress();
  }

  setLook(look: Look): void {
    this.look = look;
    this.dress();
  }

  goTo(mm: Vec3): void {
    this.mm = mm;
    for (const pane of this.all) pane.setCrosshair(mm);
    this.mark();
  }

  private get all(): Pane[] {
    return SEQUENCES.map((sequence) => this.panes[sequence]);
  }

  private async fill(sequence: Sequence, series: Series | null): Promise<void> {
    const pane = this.panes[sequence];
    if (this.shown[sequence] === (series?.id ?? null)) return;
    this.shown[sequence] = series?.id ?? null;
    if (!series) {
      pane.clear();
      return;
    }
    const { signal } = this.loads;
    const isStale = (): boolean => signal.aborted || this.shown[sequence] !== series.id;
    pane.clear();
    pane.showLoading(null);
    try {
      const picture = await this.picture(series, (fraction) => isStale() || pane.showLoading(fraction), signal);
      if (isStale()) return;
      await pane.load(picture, this.makeEngine, series.description);
      if (!isStale()) this.join(pane, picture);
    } catch (error) {
      if (!isStale()) pane.showError(sentenceOf(error));
    }
  }

  private picture(
    series: Series,
    onFraction: (fraction: number | null) => void,
    signal: AbortSignal,
  ): Promise<Picture> {
    const known = this.pictures.get(series.id);
    if (known) return known;
    const told = (loaded: number, total: number | null): void => onFraction(total ? Math.min(1, loaded / total) : null);
    const loading = this.client
      .volume(series.id, told, signal)
      .then(async (file) => ({ file, volume: closestRas(await readNifti(file)) }));
    this.pictures.set(series.id, loading);
    loading.catch(() => this.pictures.delete(series.id));
    return loading;
  }

  private join(pane: Pane, picture: Picture): void {
    pane.setView(this.plane, this.isSmooth, this.tool);
    this.goTo(this.mm ?? centre(picture.volume));
    pane.setMask(this.overlay, this.look);
  }

  private moveTo(mm: Vec3): void {
    this.isTouched = true;
    this.goTo(mm);
  }

  private dress(): void {
    for (const pane of this.all) pane.setMask(this.overlay, this.look);
    this.element.dataset["mask"] = this.overlay ? (this.overlay.file ? "shown" : "preview") : "none";
  }

  /** The pane that the slider follows: T1CE when it is there. */
  private get leader(): Pane | null {
    const order: Sequence[] = ["T1CE", "FLAIR", "T2", "T1"];
    return order.map((sequence) => this.panes[sequence]).find((pane) => pane.slice !== null) ?? null;
  }

  private mark(): void {
    const slice = this.leader?.slice;
    this.slider.disabled = !slice;
    this.slider.max = String((slice?.count ?? 1) - 1);
    this.slider.value = String(slice?.at ?? 0);
    text(this.point, this.mm && slice ? inWords(this.mm) : "");
  }

  private toolbar(): HTMLElement {
    const planes = PLANES.map((plane) => {
      const button = say(h("button", { type: "button", "data-testid": `plane-${plane}` }), plane);
      button.addEventListener("click", () => this.choosePlane(plane));
      return button;
    });
    const tools = (["crosshair", "window"] as const).map((tool) => {
      const button = say(
        h("button", { type: "button", "data-testid": `tool-${tool}` }),
        tool === "window" ? "windowing" : tool,
      );
      button.addEventListener("click", () => this.chooseTool(tool));
      return button;
    });
    const reset = say(h("button", { type: "button", class: "quiet", "data-testid": "reset-window" }), "resetWindow");
    reset.addEventListener("click", () => this.all.forEach((pane) => pane.resetWindow()));
    const smooth = h("input", { type: "checkbox", checked: true, "data-testid": "smooth" });
    smooth.addEventListener("change", () => {
      this.isSmooth = smooth.checked;
      this.refreshViews();
    });
    sayIn(this.slider, "aria-label", "slice").addEventListener("input", () => {
      const leader = this.leader;
      leader?.step(Number(this.slider.value) - (leader.slice?.at ?? 0));
    });
    this.planeButtons = planes;
    this.toolButtons = tools;
    this.pressed();
    return h(
      "div",
      { class: "toolbar", role: "toolbar" },
      h("div", { class: "group" }, ...planes),
      h("div", { class: "group" }, ...tools),
      reset,
      h("label", { class: "check" }, smooth, say(h("span"), "smooth")),
      h("label", { class: "slide" }, this.slider),
    );
  }

  private planeButtons: HTMLElement[] = [];
  private toolButtons: HTMLElement[] = [];

  private pressed(): void {
    this.planeButtons.forEach((button, index) =>
      button.setAttribute("aria-pressed", String(PLANES[index] === this.plane)),
    );
    this.toolButtons.forEach((button, index) =>
      button.setAttribute("aria-pressed", String((index === 0) === (this.tool === "crosshair"))),
    );
    this.element?.setAttribute("data-tool", this.tool);
  }

  private choosePlane(plane: Plane): void {
    this.plane = plane;
    this.refreshViews();
    if (this.mm) this.goTo(this.mm);
  }

  private chooseTool(tool: Tool): void {
    this.tool = tool;
    this.refreshViews();
  }

  private refreshViews(): void {
    for (const pane of this.all) pane.setView(this.plane, this.isSmooth, this.tool);
    this.pressed();
  }

  private toggleEnlarged(sequence: Sequence): void {
    const isEnlarged = this.grid.dataset["only"] === sequence;
    if (isEnlarged) delete this.grid.dataset["only"];
    else this.grid.dataset["only"] = sequence;
    for (const pane of this.all) show(pane.element, isEnlarged || pane.sequence === sequence);
  }
}

/** A point as a radiologist reads it: how far to which side. */
function inWords([x, y, z]: Vec3): string {
  const side = (value: number, [plus, minus]: string): string =>
    `${value < 0 ? minus : plus} ${Math.abs(value).toFixed(1)}`;
  return `${side(x, "RL")}  ${side(y, "AP")}  ${side(z, "SI")} mm`;
}
