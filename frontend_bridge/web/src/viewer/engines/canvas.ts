/** Canvas 2D: one canvas pixel is one voxel of the series' own slice; the browser only scales the picture. */

import { apply, type Vec3 } from "../../imaging/affine";
import type { Look } from "../../imaging/labels";
import {
  blendLabels,
  frameOf,
  labelsUnder,
  paintGrey,
  pixelOfVoxel,
  throughAxis,
  voxelOfPixel,
} from "../../imaging/slice";
import { nearestVoxel, type Volume } from "../../imaging/volume";
import { h } from "../dom";
import type { Engine, Gestures, Overlay, Picture, View } from "./engine";

export class CanvasEngine implements Engine {
  private readonly canvas = h("canvas", { class: "slice", "data-testid": "slice" });
  private readonly across = h("div", { class: "hair across" });
  private readonly down = h("div", { class: "hair down" });
  private readonly box = h("div", { class: "picture" }, this.canvas, this.across, this.down);
  private readonly resizing = new ResizeObserver(() => this.layOut());
  private readonly stop = new AbortController();
  private volume: Volume | null = null;
  private overlay: Overlay | null = null;
  private look: Look = { opacity: 0, style: "fill", hidden: new Set() };
  private view: View | null = null;
  private voxel: Vec3 = [0, 0, 0];
  private wheel = 0;
  private isDirty = false;

  constructor(
    private readonly host: HTMLElement,
    private readonly gestures: Gestures,
  ) {
    host.append(this.box);
    this.resizing.observe(host);
    const listen = { signal: this.stop.signal };
    host.addEventListener("wheel", (event) => this.scroll(event), { ...listen, passive: false });
    host.addEventListener("pointerdown", (event) => this.press(event), listen);
    host.addEventListener("pointermove", (event) => this.drag(event), listen);
  }

  async load(picture: Picture): Promise<void> {
    this.volume = picture.volume;
    this.layOut();
  }

  setMask(overlay: Overlay | null, look: Look): void {
    this.overlay = overlay;
    this.look = look;
    this.paintSoon();
  }

  setCrosshair(mm: Vec3): void {
    if (!this.volume) return;
    this.voxel = nearestVoxel(this.volume, mm);
    this.paintSoon();
  }

  setView(view: View): void {
    const isNewPlane = this.view?.plane !== view.plane;
    this.view = view;
    this.canvas.classList.toggle("exact", !view.isSmooth);
    if (isNewPlane) this.layOut();
    this.paintSoon();
  }

  dispose(): void {
    this.stop.abort();
    this.resizing.disconnect();
    this.box.remove();
  }

  private layOut(): void {
    if (!this.volume || !this.view) return;
    const { width, height, pixel } = frameOf(this.volume, this.view.plane);
    const [mmWide, mmHigh] = [width * pixel[0], height * pixel[1]];
    const scale = Math.min(this.host.clientWidth / mmWide, this.host.clientHeight / mmHigh);
    this.box.style.width = `${mmWide * scale}px`;
    this.box.style.height = `${mmHigh * scale}px`;
    this.paintSoon();
  }

  private paintSoon(): void {
    if (this.isDirty) return;
    this.isDirty = true;
    requestAnimationFrame(() => {
      this.isDirty = false;
      this.paint();
    });
  }

  private paint(): void {
    if (!this.volume || !this.view || this.stop.signal.aborted) return;
    const { plane, window } = this.view;
    const size = frameOf(this.volume, plane);
    const slice = this.voxel[throughAxis(plane)];
    if (this.canvas.width !== size.width) this.canvas.width = size.width;
    if (this.canvas.height !== size.height) this.canvas.height = size.height;
    const pixels = paintGrey(this.volume, plane, slice, window);
    if (this.overlay) blendLabels(pixels, labelsUnder(this.volume, this.overlay.volume, plane, slice), size, this.look);
    this.canvas.getContext("2d")?.putImageData(new ImageData(pixels, size.width, size.height), 0, 0);
    const [x, y] = pixelOfVoxel(this.volume, plane, this.voxel);
    this.down.style.left = `${((x + 0.5) / size.width) * 100}%`;
    this.across.style.top = `${((y + 0.5) / size.height) * 100}%`;
    Object.assign(this.canvas.dataset, { slice: String(slice), plane, painted: this.overlay ? "mask" : "grey" });
  }

  private scroll(event: WheelEvent): void {
    if (!this.volume || event.ctrlKey) return;
    event.preventDefault();
    this.wheel += event.deltaMode === 0 ? event.deltaY / 40 : event.deltaY;
    const steps = Math.trunc(this.wheel);
    this.wheel -= steps;
    if (steps !== 0) this.step(Math.sign(steps) * Math.min(3, Math.abs(steps)));
  }

  private step(slices: number): void {
    if (!this.volume || !this.view) return;
    const axis = throughAxis(this.view.plane);
    const voxel: Vec3 = [...this.voxel];
    voxel[axis] = Math.min(this.volume.dims[axis] - 1, Math.max(0, voxel[axis] + slices));
    this.gestures.onCrosshair(apply(this.volume.affine, voxel));
  }

  private press(event: PointerEvent): void {
    if (event.button !== 0) return;
    this.host.setPointerCapture(event.pointerId);
    this.point(event);
  }

  private drag(event: PointerEvent): void {
    if (event.buttons !== 0 && this.host.hasPointerCapture(event.pointerId)) this.point(event);
  }

  private point(event: PointerEvent): void {
    if (!this.volume || !this.view) return;
    const { plane } = this.view;
    const size = frameOf(this.volume, plane);
    const edges = this.box.getBoundingClientRect();
    const x = Math.floor(((event.clientX - edges.left) / edges.width) * size.width);
    const y = Math.floor(((event.clientY - edges.top) / edges.height) * size.height);
    const inside = (at: number, end: number): number => Math.min(end - 1, Math.max(0, at));
    const pixel: Vec3 = [inside(x, size.width), inside(y, size.height), this.voxel[throughAxis(plane)]];
    this.gestures.onCrosshair(apply(this.volume.affine, voxelOfPixel(this.volume, plane, pixel)));
  }
}
