/** Writing a label volume as NIfTI-1, for an engine that reads files. */

import type { Volume } from "./volume";

/** Uint8 voxels in the order of the volume's own axes, with its affine as sform. */
export function writeLabels(volume: Volume): Uint8Array<ArrayBuffer> {
  const [nx, ny, nz] = volume.dims;
  const bytes = new Uint8Array(352 + nx * ny * nz);
  const view = new DataView(bytes.buffer);
  view.setInt32(0, 348, true);
  [3, nx, ny, nz, 1, 1, 1, 1].forEach((size, index) => view.setInt16(40 + 2 * index, size, true));
  view.setInt16(70, 2, true); // uint8
  view.setInt16(72, 8, true);
  [1, 1, 1, 1].forEach((size, index) => view.setFloat32(76 + 4 * index, size, true));
  view.setFloat32(108, 352, true);
  view.setFloat32(112, 1, true);
  view.setInt16(254, 1, true); // sform: scanner coordinates
  for (let index = 0; index < 12; index++) view.setFloat32(280 + 4 * index, volume.affine[index], true);
  bytes.set([0x6e, 0x2b, 0x31, 0], 344); // "n+1"
  const [si, sj, sk] = volume.strides;
  let at = 352;
  for (let k = 0; k < nz; k++) {
    for (let j = 0; j < ny; j++) {
      for (let i = 0; i < nx; i++) bytes[at++] = volume.voxels[volume.origin + i * si + j * sj + k * sk];
    }
  }
  return bytes;
}
