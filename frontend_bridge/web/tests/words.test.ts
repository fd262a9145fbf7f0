import { expect, test } from "vitest";

import { WORDS } from "../src/viewer/words";

test("both languages fill in the same values", () => {
  const values = (line: string): string[] => [...line.matchAll(/\{(\w+)\}/g)].map((match) => match[1]).sort();

  for (const [key, line] of Object.entries(WORDS.en)) {
    const korean = WORDS.ko[key as keyof typeof WORDS.ko];
    expect(values(korean), key).toEqual(values(line));
  }
});
