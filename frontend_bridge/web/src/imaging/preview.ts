/** The labels so far, as they come over the socket, as a volume. */

import type { Preview } from "../client";
import { inflate } from "./nifti";
import type { Volume } from "./volume";

/** Throws NiftiError when the bytes are damaged. */
export async function readPreview(preview: Preview): Promise<Volume> {
  const packed = Uint8Array.from(atob(preview.labels), (letter) => letter.charCodeAt(0));
  const [x, y, z] = preview.shape;
  const voxels = await inflate(packed, "deflate");
  return {
    dims: [x, y, z],
    strides: [y * z, z, 1],
    origin: 0,
    voxels: voxels.length === x * y * z ? voxels : new Uint8Array(x * y * z),
    affine: preview.affine,
    slope: 1,
    intercept: 0,
  };
}
