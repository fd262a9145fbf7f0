import { deflateSync, gzipSync } from "node:zlib";
import { expect, test } from "vitest";

import { apply, inverse, multiply, type Vec3 } from "../src/imaging/affine";
import { writeLabels } from "../src/imaging/encode";
import { NiftiError, readNifti } from "../src/imaging/nifti";
import { readPreview } from "../src/imaging/preview";
import { blendLabels, frameOf, labelsUnder, paintGrey, pixelOfVoxel, PLANES, voxelOfPixel } from "../src/imaging/slice";
import { closestRas, defaultWindow, nearestVoxel, voxelAt, type Volume } from "../src/imaging/volume";
import { labelColour } from "../src/imaging/labels";
import { lesionPoint } from "../src/viewer/lesion";
import { turned } from "../src/viewer/windowing";

/** As dcm2niix writes an axial scan: columns to the left, rows to the front. */
const LAS = [-2, 0, 0, 10, 0, 2, 0, -20, 0, 0, 5, -30, 0, 0, 0, 1];

function volume(dims: Vec3, affine: readonly number[] = LAS): Volume {
  const count = dims[0] * dims[1] * dims[2];
  return {
    dims,
    strides: [1, dims[0], dims[0] * dims[1]],
    origin: 0,
    voxels: Float32Array.from({ length: count }, (_, index) => index),
    affine,
    slope: 1,
    intercept: 0,
  };
}

function nifti(write: (view: DataView) => void, voxels: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(352 + voxels.length);
  bytes.set(voxels, 352);
  const view = new DataView(bytes.buffer);
  view.setFloat32(108, 352, true);
  view.setInt32(0, 348, true);
  write(view);
  return bytes;
}

test("an affine and its inverse bring a point back", () => {
  const affine = [1.9, 0.3, -0.2, 11, -0.4, 2.1, 0.1, -7, 0.2, 0.1, 5.2, 3, 0, 0, 0, 1];

  const there = apply(affine, [3, 4, 5]);
  const back = apply(inverse(affine), there);

  back.forEach((value, axis) => expect(value).toBeCloseTo([3, 4, 5][axis], 9));
  multiply(affine, inverse(affine)).forEach((value, index) => expect(value).toBeCloseTo(index % 5 === 0 ? 1 : 0, 9));
});

test("axes in RAS+ order name the same voxels at the same points in space", () => {
  const stored = volume([3, 4, 5], [0, -2, 0, 10, 0, 0, 3, -20, 1.5, 0, 0, 7, 0, 0, 0, 1]);

  const ras = closestRas(stored);

  for (const stored_voxel of [
    [0, 0, 0],
    [2, 3, 4],
    [1, 2, 3],
  ] as Vec3[]) {
    const mm = apply(stored.affine, stored_voxel);
    expect(voxelAt(ras, nearestVoxel(ras, mm))).toBe(voxelAt(stored, stored_voxel));
  }
  expect([ras.affine[0], ras.affine[5], ras.affine[10]].every((step) => step > 0)).toBe(true);
});

test("a gzip NIfTI with an sform is read with its scale and its place", async () => {
  const file = nifti(
    (view) => {
      [3, 2, 2, 1].forEach((size, index) => view.setInt16(40 + 2 * index, size, true));
      view.setInt16(70, 4, true);
      view.setFloat32(112, 2, true);
      view.setFloat32(116, 5, true);
      view.setInt16(254, 1, true);
      LAS.slice(0, 12).forEach((value, index) => view.setFloat32(280 + 4 * index, value, true));
    },
    new Uint8Array(Int16Array.from([1, -2, 3, 4]).buffer),
  );

  const read = await readNifti(new Uint8Array(gzipSync(file)));

  expect(read.affine).toEqual(LAS);
  expect([0, 1].map((i) => voxelAt(read, [i, 0, 0]))).toEqual([7, 1]);
});

test("a big-endian file with only a qform is read", async () => {
  const bytes = new Uint8Array(352 + 4);
  const view = new DataView(bytes.buffer);
  view.setInt32(0, 348, false);
  [3, 2, 1, 1].forEach((size, index) => view.setInt16(40 + 2 * index, size, false));
  view.setInt16(70, 4, false);
  view.setFloat32(108, 352, false);
  [-1, 2, 3, 4].forEach((size, index) => view.setFloat32(76 + 4 * index, size, false));
  view.setInt16(252, 1, false);
  view.setFloat32(260, 1, false); // half a turn about y: x and z reversed, z back again by qfac
  view.setFloat32(268, 9, false);
  view.setInt16(352, 300, false);
  view.setInt16(354, -300, false);

  const read = await readNifti(bytes);

  expect(read.affine.map((value) => value + 0)).toEqual([-2, 0, 0, 9, 0, 3, 0, 0, 0, 0, 4, 0, 0, 0, 0, 1]);
  expect([voxelAt(read, [0, 0, 0]), voxelAt(read, [1, 0, 0])]).toEqual([300, -300]);
});

test.each([
  ["a text", new TextEncoder().encode("no image ".repeat(60))],
  [
    "a file cut short",
    nifti(
      (view) => (
        view.setInt16(40, 3, true),
        view.setInt16(42, 99, true),
        view.setInt16(44, 99, true),
        view.setInt16(46, 9, true),
        view.setInt16(70, 2, true)
      ),
      new Uint8Array(4),
    ),
  ],
  ["damaged gzip", new Uint8Array([0x1f, 0x8b, 1, 2, 3])],
])("%s is refused with a sentence", async (_, bytes) => {
  await expect(readNifti(bytes as Uint8Array<ArrayBuffer>)).rejects.toBeInstanceOf(NiftiError);
});

test("labels that are written are read back", async () => {
  const labels = { ...volume([2, 3, 4]), voxels: Uint8Array.from({ length: 24 }, (_, index) => index % 4) };

  const read = await readNifti(writeLabels(labels));

  expect([...read.voxels]).toEqual([...labels.voxels]);
  expect(read.affine).toEqual(LAS);
});

test("a preview's labels lie in C order", async () => {
  const labels = Uint8Array.from({ length: 24 }, (_, index) => index);
  const packed = Buffer.from(deflateSync(labels)).toString("base64");

  const read = await readPreview({ pseq: 1, shape: [2, 3, 4], affine: LAS, labels: packed });

  expect(voxelAt(read, [1, 2, 3])).toBe(1 * 12 + 2 * 4 + 3);
});

test("the patient's right is on the left of an axial picture, and the front is up", () => {
  const ras = closestRas(volume([4, 5, 6]));

  const leftTop = apply(ras.affine, voxelOfPixel(ras, "axial", [0, 0, 0]));
  const rightBottom = apply(ras.affine, voxelOfPixel(ras, "axial", [3, 4, 0]));

  expect(leftTop[0]).toBeGreaterThan(rightBottom[0]); // x grows to the patient's right
  expect(leftTop[1]).toBeGreaterThan(rightBottom[1]); // y grows to the front
});

test.each(PLANES)("a %s picture shows every voxel of its slice at its pixel", (plane) => {
  const ras = closestRas(volume([4, 5, 6]));
  const { width, height } = frameOf(ras, plane);

  const pixels = paintGrey(ras, plane, 2, { low: 0, high: 119 });

  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const voxel = voxelOfPixel(ras, plane, [x, y, 2]);
      expect(pixels[4 * (y * width + x)]).toBe(Math.round((255 * voxelAt(ras, voxel)) / 119));
      expect(pixelOfVoxel(ras, plane, voxel)).toEqual([x, y, 2]);
    }
  }
});

test("a mask on another grid is found through space", () => {
  const scan = closestRas(volume([8, 8, 4], [-1, 0, 0, 3, 0, 1, 0, -4, 0, 0, 2, 0, 0, 0, 0, 1]));
  const mask = { ...volume([4, 4, 4], [2, 0, 0, -4, 0, 2, 0, -4, 0, 0, 2, 0, 0, 0, 0, 1]), voxels: new Uint8Array(64) };
  mask.voxels[1 + 2 * 4 + 3 * 16] = 3; // at (-2, 0, 6) mm

  const labels = labelsUnder(scan, mask, "axial", 3);

  const at = pixelOfVoxel(scan, "axial", nearestVoxel(scan, [-2, 0, 6]));
  expect(labels[at[1] * 8 + at[0]]).toBe(3);
  expect(labels.reduce((count, label) => count + (label ? 1 : 0), 0)).toBe(4);
});

test("an outline paints only the edge, a hidden label nothing", () => {
  const labels = new Uint8Array(25);
  for (let y = 1; y < 4; y++) for (let x = 1; x < 4; x++) labels[5 * y + x] = 1;
  const size = { width: 5, height: 5 };
  const painted = (look: Parameters<typeof blendLabels>[3]): number[] => {
    const pixels = new Uint8ClampedArray(100).fill(100);
    blendLabels(pixels, labels, size, look);
    return [...labels.keys()].filter((at) => pixels[4 * at] !== 100);
  };

  expect(painted({ opacity: 0.5, style: "fill", hidden: new Set() })).toHaveLength(9);
  expect(painted({ opacity: 0.5, style: "outline", hidden: new Set() })).toHaveLength(8);
  expect(painted({ opacity: 0.5, style: "fill", hidden: new Set([1]) })).toEqual([]);
});

test("opacity blends towards the label's colour", () => {
  const pixels = new Uint8ClampedArray([100, 100, 100, 255]);

  blendLabels(
    pixels,
    new Uint8Array([2]),
    { width: 1, height: 1 },
    { opacity: 0.25, style: "fill", hidden: new Set() },
  );

  expect([...pixels.slice(0, 3)]).toEqual(labelColour(2).map((colour) => Math.round(100 + (colour - 100) * 0.25)));
});

test("the window leaves the background out", () => {
  const scan = {
    ...volume([10, 10, 10]),
    voxels: Float32Array.from({ length: 1000 }, (_, index) => (index < 500 ? 0 : 200 + index)),
  };

  const window = defaultWindow(scan);

  expect(window.low).toBeGreaterThan(690);
  expect(window.high).toBeLessThan(1200);
});

test("the first look goes to the largest slice of the lesion", () => {
  const mask = { ...volume([6, 6, 3], [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]), voxels: new Uint8Array(108) };
  mask.voxels.set([1, 1], 36 * 1 + 6 * 2 + 2);
  mask.voxels.set([1, 1, 1], 36 * 2 + 6 * 3 + 1);

  expect(lesionPoint(mask)).toEqual([2, 3, 2]);
  expect(lesionPoint({ ...mask, voxels: new Uint8Array(108) })).toBeNull();
});

test("dragging to the right widens the window, dragging down raises its level, and it never turns inside out", () => {
  const window = { low: 100, high: 300 };

  expect(turned(window, 0.25, 0)).toEqual({ low: 50, high: 350 });
  expect(turned(window, 0, 0.25)).toEqual({ low: 150, high: 350 });
  expect(turned(window, -5, 0).high).toBeGreaterThan(turned(window, -5, 0).low);
});
