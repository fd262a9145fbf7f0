/** The labels of a mask (BraTS 2023 numbering), how they are coloured, and how the overlay looks. */

export type Label = 1 | 2 | 3;
export const LABELS: readonly Label[] = [3, 1, 2];

/** Told apart with red-green blindness too: they differ in lightness as well as in hue. */
const COLOURS: Readonly<Record<number, readonly [number, number, number]>> = {
  1: [235, 87, 87],
  2: [92, 200, 130],
  3: [255, 209, 64],
};

export function labelColour(label: number): readonly [number, number, number] {
  return COLOURS[label] ?? [255, 0, 255];
}

export interface Look {
  /** 0 to 1. */
  opacity: number;
  style: "fill" | "outline";
  hidden: ReadonlySet<number>;
}
