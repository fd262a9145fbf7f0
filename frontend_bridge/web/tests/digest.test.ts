import { createHash } from "node:crypto";
import { expect, test } from "vitest";

import { sha256, sha256Hex } from "../src/client/digest";

test.each([0, 1, 55, 56, 63, 64, 65, 1000, 4097])("our SHA-256 of %i bytes is the standard's", (length) => {
  const bytes = Uint8Array.from({ length }, (_, index) => (index * 31 + 7) & 255);

  const ours = Buffer.from(sha256(bytes)).toString("hex");

  expect(ours).toBe(createHash("sha256").update(bytes).digest("hex"));
});

test("with and without the browser's own digest the answer is the same", async () => {
  const bytes = new Uint8Array([1, 2, 3]);

  const hex = await sha256Hex(bytes);

  expect(hex).toBe(Buffer.from(sha256(bytes)).toString("hex"));
});
