/**
 * Painting one native slice, pixel for voxel: exact, so that a test can compare it.
 *
 * Radiological convention: the patient's right is on the left of the picture, anterior (axial) or superior (coronal,
 * sagittal) is up; in sagittal pictures anterior is on the left. Volumes come with axes in RAS+ order (closestRas).
 */

import { inverse, multiply, spacing, type Vec3 } from "./affine";
import { labelColour, type Look } from "./labels";
import type { Volume, Window } from "./volume";

export type Plane = "axial" | "coronal" | "sagittal";
export const PLANES: readonly Plane[] = ["axial", "coronal", "sagittal"];

/** Array axes: across the picture, down the picture, and through it. Every picture axis runs against its array axis. */
const AXES: Readonly<Record<Plane, Vec3>> = { axial: [0, 1, 2], coronal: [0, 2, 1], sagittal: [1, 2, 0] };

export interface Frame {
  width: number;
  height: number;
  /** Size of one pixel in mm. */
  pixel: [number, number];
  slices: number;
}

export function throughAxis(plane: Plane): number {
  return AXES[plane][2];
}

export function frameOf(volume: Volume, plane: Plane): Frame {
  const [across, down, through] = AXES[plane];
  const mm = spacing(volume.affine);
  return {
    width: volume.dims[across],
    height: volume.dims[down],
    pixel: [mm[across], mm[down]],
    slices: volume.dims[through],
  };
}

/** The voxel under a pixel of slice `slice`. */
export function voxelOfPixel(volume: Volume, plane: Plane, [x, y, slice]: Vec3): Vec3 {
  const [across, down, through] = AXES[plane];
  const voxel: Vec3 = [0, 0, 0];
  voxel[across] = volume.dims[across] - 1 - x;
  voxel[down] = volume.dims[down] - 1 - y;
  voxel[through] = slice;
  return voxel;
}

/** The pixel (x, y) and the slice of a voxel. */
export function pixelOfVoxel(volume: Volume, plane: Plane, voxel: Vec3): Vec3 {
  const [across, down, through] = AXES[plane];
  return [volume.dims[across] - 1 - voxel[across], volume.dims[down] - 1 - voxel[down], voxel[through]];
}

/** Letters at the left and the top of the picture. */
export const EDGES: Readonly<Record<Plane, { left: string; right: string; top: string; bottom: string }>> = {
  axial: { left: "R", right: "L", top: "A", bottom: "P" },
  coronal: { left: "R", right: "L", top: "S", bottom: "I" },
  sagittal: { left: "A", right: "P", top: "S", bottom: "I" },
};

/** RGBA of one slice in grey, width x height x 4. */
export function paintGrey(volume: Volume, plane: Plane, slice: number, window: Window): Uint8ClampedArray<ArrayBuffer> {
  const { width, height } = frameOf(volume, plane);
  const out = new Uint8ClampedArray(width * height * 4);
  const [across, down, through] = AXES[plane];
  const [stepX, stepY] = [-volume.strides[across], -volume.strides[down]];
  const corner =
    volume.origin -
    (volume.dims[across] - 1) * stepX -
    (volume.dims[down] - 1) * stepY +
    slice * volume.strides[through];
  const scale = (255 * volume.slope) / (window.high - window.low);
  const shift = (255 * (volume.intercept - window.low)) / (window.high - window.low);
  let at = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const grey = volume.voxels[corner + x * stepX + y * stepY] * scale + shift;
      out[at] = out[at + 1] = out[at + 2] = grey;
      out[at + 3] = 255;
      at += 4;
    }
  }
  return out;
}

/** The mask's label under every pixel of a slice of `volume` (nearest voxel in space), 0 outside the mask. */
export function labelsUnder(volume: Volume, mask: Volume, plane: Plane, slice: number): Uint8Array {
  const { width, height } = frameOf(volume, plane);
  const labels = new Uint8Array(width * height);
  const toMask = multiply(inverse(mask.affine), volume.affine);
  const [across, down] = AXES[plane];
  const first = voxelOfPixel(volume, plane, [0, 0, slice]);
  const start = [0, 1, 2].map(
    (row) =>
      toMask[4 * row] * first[0] +
      toMask[4 * row + 1] * first[1] +
      toMask[4 * row + 2] * first[2] +
      toMask[4 * row + 3],
  );
  const right = [0, 1, 2].map((row) => -toMask[4 * row + across]);
  const below = [0, 1, 2].map((row) => -toMask[4 * row + down]);
  const [nx, ny, nz] = mask.dims;
  const [si, sj, sk] = mask.strides;
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      const i = Math.round(start[0] + x * right[0] + y * below[0]);
      const j = Math.round(start[1] + x * right[1] + y * below[1]);
      const k = Math.round(start[2] + x * right[2] + y * below[2]);
      if (i < 0 || j < 0 || k < 0 || i >= nx || j >= ny || k >= nz) continue;
      labels[at] = mask.voxels[mask.origin + i * si + j * sj + k * sk];
    }
  }
  return labels;
}

/** Blend the labels into an RGBA picture: filled, or only the pixels at a label's edge. */
export function blendLabels(
  pixels: Uint8ClampedArray,
  labels: Uint8Array,
  size: { width: number; height: number },
  look: Look,
): void {
  for (let at = 0; at < labels.length; at++) {
    const label = labels[at];
    if (label === 0 || look.hidden.has(label)) continue;
    if (look.style === "outline" && !isEdge(labels, at, size)) continue;
    const colour = labelColour(label);
    const opacity = look.style === "outline" ? Math.max(look.opacity, 0.85) : look.opacity;
    for (let channel = 0; channel < 3; channel++) {
      const under = pixels[4 * at + channel];
      pixels[4 * at + channel] = under + (colour[channel] - under) * opacity;
    }
  }
}

function isEdge(labels: Uint8Array, at: number, { width, height }: { width: number; height: number }): boolean {
  const label = labels[at];
  const x = at % width;
  const y = (at - x) / width;
  return (
    x === 0 ||
    y === 0 ||
    x === width - 1 ||
    y === height - 1 ||
    labels[at - 1] !== label ||
    labels[at + 1] !== label ||
    labels[at - width] !== label ||
    labels[at + width] !== label
  );
}
