/** Reading NIfTI-1 (.nii, .nii.gz): https://nifti.nimh.nih.gov, nifti1.h. */

import type { Vec3 } from "./affine";
import type { Volume, Voxels } from "./volume";

/** The file cannot be shown; the message says why. */
export class NiftiError extends Error {
  override readonly name = "NiftiError";
}

const HEADER_BYTES = 348;

type Reader = (view: DataView, at: number, isLittle: boolean) => number;
interface Kind {
  bytes: number;
  array: new (buffer: ArrayBuffer, offset: number, length: number) => Voxels;
  empty: new (length: number) => Voxels;
  read: Reader;
}

const KINDS: Readonly<Record<number, Kind>> = {
  2: { bytes: 1, array: Uint8Array, empty: Uint8Array, read: (view, at) => view.getUint8(at) },
  4: { bytes: 2, array: Int16Array, empty: Int16Array, read: (view, at, little) => view.getInt16(at, little) },
  8: { bytes: 4, array: Int32Array, empty: Int32Array, read: (view, at, little) => view.getInt32(at, little) },
  16: { bytes: 4, array: Float32Array, empty: Float32Array, read: (view, at, little) => view.getFloat32(at, little) },
  64: { bytes: 8, array: Float64Array, empty: Float64Array, read: (view, at, little) => view.getFloat64(at, little) },
  256: { bytes: 1, array: Int8Array, empty: Int8Array, read: (view, at) => view.getInt8(at) },
  512: { bytes: 2, array: Uint16Array, empty: Uint16Array, read: (view, at, little) => view.getUint16(at, little) },
  768: { bytes: 4, array: Uint32Array, empty: Uint32Array, read: (view, at, little) => view.getUint32(at, little) },
};

/** Throws NiftiError. The first volume of a series in time. */
export async function readNifti(file: Uint8Array<ArrayBuffer>): Promise<Volume> {
  const isGzip = file.length > 2 && file[0] === 0x1f && file[1] === 0x8b;
  const bytes = isGzip ? await inflate(file, "gzip") : file;
  if (bytes.byteLength < HEADER_BYTES) throw new NiftiError("The file is shorter than a NIfTI header.");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const isLittle = view.getInt32(0, true) === HEADER_BYTES;
  if (!isLittle && view.getInt32(0, false) !== HEADER_BYTES) throw new NiftiError("The file is not NIfTI-1.");
  const rank = view.getInt16(40, isLittle);
  const dims = [1, 2, 3].map((axis) => (axis <= rank ? view.getInt16(40 + 2 * axis, isLittle) : 1)) as Vec3;
  const kind = KINDS[view.getInt16(70, isLittle)];
  if (!kind) throw new NiftiError("The voxels are of a kind that cannot be shown.");
  const slope = view.getFloat32(112, isLittle);
  return {
    dims,
    strides: [1, dims[0], dims[0] * dims[1]],
    origin: 0,
    voxels: readVoxels(view, kind, { start: view.getFloat32(108, isLittle), count: product(dims), isLittle }),
    affine: readAffine(view, isLittle),
    slope: slope === 0 || !Number.isFinite(slope) ? 1 : slope,
    intercept: slope === 0 || !Number.isFinite(slope) ? 0 : view.getFloat32(116, isLittle),
  };
}

function readVoxels(
  view: DataView,
  kind: Kind,
  { start, count, isLittle }: { start: number; count: number; isLittle: boolean },
): Voxels {
  if (count <= 0 || start + count * kind.bytes > view.byteLength) throw new NiftiError("The file ends too early.");
  const offset = view.byteOffset + start;
  if (isLittle && offset % kind.bytes === 0) return new kind.array(view.buffer as ArrayBuffer, offset, count);
  const voxels = new kind.empty(count);
  for (let index = 0; index < count; index++) voxels[index] = kind.read(view, start + index * kind.bytes, isLittle);
  return voxels;
}

/** The sform when there is one, else the qform, else the voxel sizes alone. */
function readAffine(view: DataView, isLittle: boolean): number[] {
  const float = (at: number): number => view.getFloat32(at, isLittle);
  if (view.getInt16(254, isLittle) > 0) {
    return [...Array.from({ length: 12 }, (_, index) => float(280 + 4 * index)), 0, 0, 0, 1];
  }
  const [dx, dy, dz] = [float(80), float(84), float(88)];
  if (view.getInt16(252, isLittle) <= 0) return [dx, 0, 0, 0, 0, dy, 0, 0, 0, 0, dz, 0, 0, 0, 0, 1];
  const [b, c, d] = [float(256), float(260), float(264)];
  const a = Math.sqrt(Math.max(0, 1 - b * b - c * c - d * d));
  const z = float(76) < 0 ? -dz : dz;
  return [
    (a * a + b * b - c * c - d * d) * dx, 2 * (b * c - a * d) * dy, 2 * (b * d + a * c) * z, float(268),
    2 * (b * c + a * d) * dx, (a * a + c * c - b * b - d * d) * dy, 2 * (c * d - a * b) * z, float(272),
    2 * (b * d - a * c) * dx, 2 * (c * d + a * b) * dy, (a * a + d * d - b * b - c * c) * z, float(276),
    0, 0, 0, 1,
  ]; // prettier-ignore
}

/** Decompress; throws NiftiError when the bytes are damaged. */
export async function inflate(
  bytes: Uint8Array<ArrayBuffer>,
  format: "gzip" | "deflate",
): Promise<Uint8Array<ArrayBuffer>> {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream(format));
  try {
    return new Uint8Array(await new Response(stream).arrayBuffer());
  } catch (error) {
    throw new NiftiError(`The compressed file is damaged (${String(error)}).`);
  }
}

const product = ([x, y, z]: Vec3): number => x * y * z;
