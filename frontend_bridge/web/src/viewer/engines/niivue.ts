/** NiiVue: WebGL2, for PCs with a graphics chip. */

import { DRAG_MODE, NVImage, Niivue, SLICE_TYPE } from "@niivue/niivue";

import type { Vec3 } from "../../imaging/affine";
import { writeLabels } from "../../imaging/encode";
import { LABELS, labelColour, type Look } from "../../imaging/labels";
import type { Plane } from "../../imaging/slice";
import { h } from "../dom";
import type { Engine, Gestures, Overlay, Picture, View } from "./engine";

const SLICES: Readonly<Record<Plane, SLICE_TYPE>> = {
  axial: SLICE_TYPE.AXIAL,
  coronal: SLICE_TYPE.CORONAL,
  sagittal: SLICE_TYPE.SAGITTAL,
};

const OUTLINE_FILL = 0.02;

export class NiivueEngine implements Engine {
  private readonly canvas = h("canvas", { class: "webgl", "data-testid": "webgl" });
  private readonly niivue = new Niivue({
    isRadiologicalConvention: true,
    sagittalNoseLeft: true,
    isOrientationTextVisible: false,
    dragAndDropEnabled: false,
    crosshairColor: [0.3, 0.76, 0.77, 0.7],
    crosshairWidth: 0.35,
    crosshairWidthUnit: "voxels",
    backColor: [0, 0, 0, 1],
    isColorbar: false,
    dragMode: DRAG_MODE.none,
    dragModePrimary: DRAG_MODE.crosshair,
    // Its own keys would change the plane behind our back.
    viewModeHotKey: "",
    clipPlaneHotKey: "",
    logLevel: "error",
    loadingText: "",
  });
  private readonly ready: Promise<unknown>;
  /** NiiVue takes whatever comes first for the scan, so a mask waits for it. */
  private readonly hasScan: Promise<void>;
  private noteScan: () => void = () => undefined;
  private overlay: Overlay | null = null;
  private mask: NVImage | null = null;
  private latestLook: Look | null = null;
  private isQuiet = false;
  private isGone = false;

  constructor(host: HTMLElement, gestures: Gestures) {
    host.append(h("div", { class: "picture full" }, this.canvas));
    this.ready = this.niivue.attachToCanvas(this.canvas, true);
    this.hasScan = new Promise((resolve) => (this.noteScan = resolve));
    this.niivue.onLocationChange = (location) => {
      const mm = (location as { mm?: ArrayLike<number> }).mm;
      if (!this.isQuiet && mm) gestures.onCrosshair([mm[0], mm[1], mm[2]]);
    };
  }

  async load(picture: Picture): Promise<void> {
    await this.ready;
    const file = new File([picture.file], "series.nii.gz");
    const image = await NVImage.loadFromFile({ file, name: "series.nii.gz" });
    if (this.isGone) return;
    this.quietly(() => this.niivue.addVolume(image));
    this.canvas.dataset["painted"] = "grey";
    this.noteScan();
  }

  setMask(overlay: Overlay | null, look: Look): void {
    this.latestLook = look;
    if (overlay === this.overlay) {
      this.dress();
      return;
    }
    this.overlay = overlay;
    void this.swapMask(overlay);
  }

  setCrosshair(mm: Vec3): void {
    if (this.niivue.volumes.length === 0) return;
    this.quietly(() => {
      this.niivue.scene.crosshairPos = this.niivue.mm2frac(mm);
      this.niivue.drawScene();
    });
  }

  setView(view: View): void {
    const base = this.niivue.volumes[0];
    if (!base) return;
    this.quietly(() => {
      this.niivue.setSliceType(SLICES[view.plane]);
      this.niivue.setInterpolation(!view.isSmooth);
      base.cal_min = view.window.low;
      base.cal_max = view.window.high;
      this.niivue.updateGLVolume();
    });
  }

  dispose(): void {
    this.isGone = true;
    this.niivue.cleanup();
    this.canvas.getContext("webgl2")?.getExtension("WEBGL_lose_context")?.loseContext();
    this.canvas.parentElement?.remove();
  }

  private async swapMask(overlay: Overlay | null): Promise<void> {
    await this.hasScan;
    const file =
      overlay && new File([overlay.file ?? writeLabels(overlay.volume)], overlay.file ? "mask.nii.gz" : "mask.nii");
    const image = file && (await NVImage.loadFromFile({ file, name: file.name, opacity: 0.5 }));
    if (this.isGone || this.overlay !== overlay) return;
    this.quietly(() => {
      if (this.mask) this.niivue.removeVolume(this.mask);
      this.mask = image;
      if (!image) return;
      image.setColormapLabel(colours(this.latestLook));
      this.niivue.addVolume(image);
    });
    this.canvas.dataset["painted"] = image ? "mask" : "grey";
    this.dress();
  }

  private dress(): void {
    const look = this.latestLook;
    if (!this.mask || !look) return;
    this.mask.setColormapLabel(colours(look));
    this.quietly(() => {
      this.niivue.setAtlasOutline(look.style === "outline" ? 1 : 0);
      // The outline is always opaque; the fill under it is what the opacity is of.
      this.niivue.setOpacity(1, look.style === "outline" ? OUTLINE_FILL : look.opacity);
    });
  }

  /** What we change ourselves is not a gesture of the person. */
  private quietly(act: () => void): void {
    this.isQuiet = true;
    try {
      act();
    } finally {
      this.isQuiet = false;
    }
  }
}

function colours(look: Look | null): {
  R: number[];
  G: number[];
  B: number[];
  A: number[];
  I: number[];
  labels: string[];
} {
  const labels = [0, ...LABELS].sort();
  const channel = (index: number): number[] => labels.map((label) => (label === 0 ? 0 : labelColour(label)[index]));
  return {
    R: channel(0),
    G: channel(1),
    B: channel(2),
    A: labels.map((label) => (label === 0 || look?.hidden.has(label) ? 0 : 255)),
    I: labels,
    labels: labels.map(String),
  };
}
