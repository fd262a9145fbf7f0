/** Where to look first: the middle of the largest axial slice of the mask. */

import { apply, type Vec3 } from "../imaging/affine";
import type { Volume } from "../imaging/volume";

/** In mm; null when the mask is empty. The mask's axes are in RAS+ order. */
export function lesionPoint(mask: Volume): Vec3 | null {
  const [nx, ny, nz] = mask.dims;
  const [si, sj, sk] = mask.strides;
  let best = { count: 0, i: 0, j: 0, k: 0 };
  for (let k = 0; k < nz; k++) {
    let [count, sumI, sumJ] = [0, 0, 0];
    for (let j = 0; j < ny; j++) {
      for (let i = 0; i < nx; i++) {
        if (mask.voxels[mask.origin + i * si + j * sj + k * sk] === 0) continue;
        count += 1;
        sumI += i;
        sumJ += j;
      }
    }
    if (count > best.count) best = { count, i: sumI / count, j: sumJ / count, k };
  }
  return best.count === 0 ? null : apply(mask.affine, [Math.round(best.i), Math.round(best.j), best.k]);
}
