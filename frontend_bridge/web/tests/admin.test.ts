import { expect, test } from "vitest";

import { WORDS } from "../src/admin/words";

test("the table says the same things in both languages", () => {
  const shape = (value: unknown): unknown =>
    typeof value === "object" && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, shape(inner)]))
      : Array.isArray(value)
        ? value.length
        : typeof value;

  expect(shape(WORDS.ko)).toEqual(shape(WORDS.en));
});
