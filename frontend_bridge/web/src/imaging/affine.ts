/** 4x4 affines by rows, from voxel indices to RAS+ millimetres (x to the patient's Right, y Anterior, z Superior). */

export type Vec3 = [number, number, number];
/** 16 numbers by rows; the last row is 0 0 0 1. */
export type Affine = readonly number[];

export function apply(affine: Affine, [x, y, z]: Vec3): Vec3 {
  return [
    affine[0] * x + affine[1] * y + affine[2] * z + affine[3],
    affine[4] * x + affine[5] * y + affine[6] * z + affine[7],
    affine[8] * x + affine[9] * y + affine[10] * z + affine[11],
  ];
}

/** Throws RangeError when the three axes do not span space. */
export function inverse(affine: Affine): number[] {
  const [a, b, c, tx, d, e, f, ty, g, h, i, tz] = affine;
  const cofactors = [e * i - f * h, c * h - b * i, b * f - c * e, f * g - d * i, a * i - c * g, c * d - a * f];
  const rest = [d * h - e * g, b * g - a * h, a * e - b * d];
  const determinant = a * cofactors[0] + b * cofactors[3] + c * rest[0];
  if (Math.abs(determinant) < 1e-12) throw new RangeError("The affine's axes do not span space.");
  const m = [...cofactors, ...rest].map((cofactor) => cofactor / determinant);
  const back = ([p, q, r]: number[]): number => -(p * tx + q * ty + r * tz);
  const rows = [m.slice(0, 3), m.slice(3, 6), m.slice(6, 9)];
  return [...rows.flatMap((row) => [...row, back(row)]), 0, 0, 0, 1];
}

export function multiply(left: Affine, right: Affine): number[] {
  return Array.from({ length: 16 }, (_, index) => {
    const row = index - (index % 4);
    const column = index % 4;
    return [0, 1, 2, 3].reduce((sum, step) => sum + left[row + step] * right[4 * step + column], 0);
  });
}

/** Length of one voxel step along each array axis, in mm. */
export function spacing(affine: Affine): Vec3 {
  return [0, 1, 2].map((axis) => Math.hypot(affine[axis], affine[4 + axis], affine[8 + axis])) as Vec3;
}
