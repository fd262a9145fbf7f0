/** What a pane asks of whatever paints it. Two implementations: Canvas 2D (exact, everywhere) and NiiVue (WebGL2). */

import type { Vec3 } from "../../imaging/affine";
import type { Look } from "../../imaging/labels";
import type { Plane } from "../../imaging/slice";
import type { Volume, Window } from "../../imaging/volume";

export interface Picture {
  /** Axes in RAS+ order. */
  volume: Volume;
  /** The NIfTI file it came from. */
  file: Uint8Array<ArrayBuffer>;
}

export interface Overlay {
  /** Axes in RAS+ order. */
  volume: Volume;
  /** The NIfTI file, when it came as one. */
  file: Uint8Array<ArrayBuffer> | null;
}

export interface View {
  plane: Plane;
  window: Window;
  isSmooth: boolean;
}

export interface Gestures {
  onCrosshair(mm: Vec3): void;
}

export interface Engine {
  load(picture: Picture): Promise<void>;
  setMask(overlay: Overlay | null, look: Look): void;
  /** The point in mm that every pane's slice goes through. */
  setCrosshair(mm: Vec3): void;
  setView(view: View): void;
  dispose(): void;
}

export type MakeEngine = (host: HTMLElement, gestures: Gestures) => Engine;
