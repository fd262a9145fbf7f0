/** A volume as it lies in memory, and the same volume seen with its axes in RAS+ order. */

import { apply, inverse, spacing, type Affine, type Vec3 } from "./affine";

export type Voxels =
  Int8Array | Uint8Array | Int16Array | Uint16Array | Int32Array | Uint32Array | Float32Array | Float64Array;

export interface Volume {
  dims: Vec3;
  /** Elements between neighbours along each axis, and where voxel (0, 0, 0) lies. */
  strides: Vec3;
  origin: number;
  voxels: Voxels;
  affine: Affine;
  /** Stored value times slope plus intercept is the real value. */
  slope: number;
  intercept: number;
}

/** The same voxels with axes permuted and flipped so that i, j, k go closest to Right, Anterior, Superior. */
export function closestRas(volume: Volume): Volume {
  const order = axisOrder(volume.affine);
  const affine = [...volume.affine];
  const out: Volume = { ...volume, dims: [...volume.dims], strides: [...volume.strides], affine };
  order.forEach((from, to) => {
    const isFlipped = volume.affine[4 * to + from] < 0;
    const steps = volume.dims[from] - 1;
    out.dims[to] = volume.dims[from];
    out.strides[to] = isFlipped ? -volume.strides[from] : volume.strides[from];
    if (isFlipped) out.origin += steps * volume.strides[from];
    for (const row of [0, 1, 2]) {
      const step = volume.affine[4 * row + from];
      affine[4 * row + to] = isFlipped ? -step : step;
      if (isFlipped) affine[4 * row + 3] += steps * step;
    }
  });
  return out;
}

/** For each world axis the array axis that goes along it best. */
function axisOrder(affine: Affine): Vec3 {
  const lengths = spacing(affine);
  const orders: Vec3[] = [
    [0, 1, 2],
    [0, 2, 1],
    [1, 0, 2],
    [1, 2, 0],
    [2, 0, 1],
    [2, 1, 0],
  ];
  const fit = (order: Vec3): number =>
    order.reduce((sum, axis, world) => sum + Math.abs(affine[4 * world + axis]) / lengths[axis], 0);
  return orders.reduce((best, order) => (fit(order) > fit(best) + 1e-9 ? order : best));
}

/** The voxel nearest to a point in mm, clamped to the volume. */
export function nearestVoxel(volume: Volume, mm: Vec3): Vec3 {
  const at = apply(inverse(volume.affine), mm);
  return at.map((index, axis) => Math.min(volume.dims[axis] - 1, Math.max(0, Math.round(index)))) as Vec3;
}

export function voxelAt(volume: Volume, [i, j, k]: Vec3): number {
  const [si, sj, sk] = volume.strides;
  return volume.voxels[volume.origin + i * si + j * sj + k * sk] * volume.slope + volume.intercept;
}

/** The middle of the volume, in mm. */
export function centre(volume: Volume): Vec3 {
  return apply(volume.affine, volume.dims.map((size) => (size - 1) / 2) as Vec3);
}

export interface Window {
  low: number;
  high: number;
}

const SAMPLES = 200_000;

/** From black to white: the 1st to the 99.5th percentile of what is not background. */
export function defaultWindow(volume: Volume): Window {
  const { voxels, slope, intercept } = volume;
  const step = Math.max(1, Math.floor(voxels.length / SAMPLES));
  const sample: number[] = [];
  for (let at = 0; at < voxels.length; at += step) {
    if (voxels[at] !== 0 && Number.isFinite(voxels[at])) sample.push(voxels[at] * slope + intercept);
  }
  if (sample.length === 0) return { low: 0, high: 1 };
  const sorted = Float64Array.from(sample).sort();
  const low = sorted[Math.floor(0.01 * (sorted.length - 1))];
  const high = sorted[Math.floor(0.995 * (sorted.length - 1))];
  return high > low ? { low, high } : { low, high: low + 1 };
}
