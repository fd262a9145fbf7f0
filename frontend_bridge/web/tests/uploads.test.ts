import { expect, test } from "vitest";

import { Http } from "../src/client/http";
import { MULTIPART_BYTES, newUuid, uploadFiles } from "../src/client/uploads";
import { fakeFetch } from "./fakes";

test("small files go in one request, and what was refused is told", async () => {
  const refused = [{ filename: "b.txt", code: "unreadable", detail: "Neither DICOM nor NIfTI." }];
  const server = fakeFetch({ "/api/mri/uploads/": () => Response.json({ studies: [], refused }, { status: 201 }) });

  const answer = await uploadFiles(new Http({ fetch: server.fetch }), [
    new File(["a"], "a.nii"),
    new File(["b"], "b.txt"),
  ]);

  expect(server.asked).toEqual(["POST /api/mri/uploads/"]);
  expect(answer.refused).toEqual(refused);
});

test("what one request may hold leaves room for the multipart frame", () => {
  expect(MULTIPART_BYTES).toBeLessThan(8 * 1024 * 1024);
});

test("a batch is named by a random UUID", () => {
  expect(newUuid()).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  expect(newUuid()).not.toBe(newUuid());
});
