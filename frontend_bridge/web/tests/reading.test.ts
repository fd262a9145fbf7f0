/** Which series stands for what, what is doubtful, what was measured and how far it was sent: as plain values. */

import { afterEach, beforeEach, expect, test, vi } from "vitest";

import type { Delivery, Proposal, Pull, Series, Study } from "../src/client";
import { Archives } from "../src/client/archives";
import { Http } from "../src/client/http";
import { pullLine } from "../src/viewer/archives";
import { doubtsOf } from "../src/viewer/doubts";
import { alignedLine, changed, dayOf } from "../src/viewer/measures";
import { stateOf } from "../src/viewer/sending";
import { sourceOf } from "../src/viewer/series";
import { NO_SLOTS, idsOf, isClash, keptSlots, missingOf, proposedSlots } from "../src/viewer/slots";
import { BY_CODE, told } from "../src/viewer/told";
import { speak } from "../src/viewer/words";
import { fakeFetch } from "./fakes";

function series(id: string, changes: Partial<Series> = {}): Series {
  return {
    id,
    uid: `1.2.${id}`,
    description: id,
    sequence: null,
    sequence_confidence: 0.9,
    shape: [10, 10, 10],
    spacing_mm: [1, 1, 1],
    ...changes,
  };
}

function proposal(changes: Partial<Proposal> = {}): Proposal {
  return { series: { T1: null, T1CE: null, T2: null, FLAIR: null }, missing: [], others: [], warnings: [], ...changes };
}

const study = (all: Series[], changes: Partial<Study> = {}): Study => ({ id: "A", series: all, ...changes });

beforeEach(() => vi.stubGlobal("document", { documentElement: {}, querySelectorAll: () => [] }));
afterEach(() => {
  speak("en");
  vi.unstubAllGlobals();
});

test("the server's proposal counts, even against what a series was recognised as", () => {
  const all = [series("a", { sequence: "T2" }), series("b", { sequence: "T2", sequence_confidence: 1 })];
  const proposed = proposal({ series: { T1: null, T1CE: null, T2: "a", FLAIR: null } });

  expect(proposedSlots(study(all, { proposal: proposed })).T2?.id).toBe("a");
  expect(proposedSlots(study(all)).T2?.id, "without one, the most certain").toBe("b");
});

test("a proposal that names a series which is not there leaves its place empty", () => {
  const proposed = proposal({ series: { T1: "gone", T1CE: null, T2: null, FLAIR: null } });

  expect(proposedSlots(study([series("a")], { proposal: proposed }))).toEqual(NO_SLOTS);
});

test("what a person chose stays until the series is gone or said to be something else", () => {
  const [first, second] = [series("a", { sequence: "T1" }), series("b")];
  const proposed = proposal({ series: { T1: "a", T1CE: null, T2: null, FLAIR: null } });
  const now = (all: Series[]): Study => study(all, { proposal: proposed });

  expect(keptSlots(now([first, second]), { T1: second }).T1?.id).toBe("b");
  expect(keptSlots(now([first, second]), { T1: null }).T1, "nothing was chosen").toBeNull();
  expect(keptSlots(now([first]), { T1: second }).T1?.id).toBe("a");
  expect(keptSlots(now([first, { ...second, sequence: "T2" }]), { T1: second }).T1?.id).toBe("a");
});

test("missing sequences and a series that was given twice are seen", () => {
  const slots = { ...NO_SLOTS, T1: series("a"), FLAIR: series("a") };

  expect(missingOf(slots)).toEqual(["T1CE", "T2"]);
  expect(idsOf(slots)).toEqual(["a", "a"]);
  expect(isClash(slots)).toBe(true);
  expect(isClash({ ...slots, FLAIR: series("b") })).toBe(false);
});

test("one click sets a doubtful series right, or says that it was right", () => {
  const sentence = "The series given as T1 looks like T1CE: fluid is dark and vessels are bright.";
  const doubtful = series("a", { sequence: "T1", sequence_reason: sentence });
  const proposed = { series: { T1: "a", T1CE: null, T2: null, FLAIR: null }, warnings: [sentence, "It is blurred."] };

  expect(doubtsOf(study([doubtful], { proposal: proposal(proposed) }))).toEqual([
    { sentence, right: [{ series: doubtful, sequence: "T1CE" }], keep: [{ series: doubtful, sequence: "T1" }] },
    { sentence: "It is blurred.", right: [], keep: [] },
  ]);
  expect(doubtsOf(study([doubtful])), "an older server says nothing").toEqual([]);
});

test("of a swapped pair one click sets both", () => {
  const sentence =
    "The series given as T2 looks like FLAIR, and the one given as FLAIR like T2: they are probably swapped.";
  const [one, other] = [series("a", { sequence: "T2" }), series("b", { sequence: "FLAIR" })];
  const proposed = { series: { T1: null, T1CE: null, T2: "a", FLAIR: "b" }, warnings: [sentence] };
  const [doubt] = doubtsOf(study([one, other], { proposal: proposal(proposed) }));

  expect(doubt.right).toEqual([
    { series: one, sequence: "FLAIR" },
    { series: other, sequence: "T2" },
  ]);
  expect(doubt.keep.map(({ sequence }) => sequence)).toEqual(["T2", "FLAIR"]);
});

test("how a sequence is known is said in words", () => {
  expect(sourceOf(series("a", { sequence: "T1", sequence_source: "voxels", sequence_confidence: 0.456 }))).toBe(
    "by its contrast, 46 % sure",
  );
  expect(sourceOf(series("a", { sequence: "T1", sequence_source: "person" }))).toBe("set by a person");
  expect(sourceOf(series("a"))).toBe("not recognised");
});

test("a change has its sign, and no per cent where there was nothing before", () => {
  expect(changed({ ml: 1.46, percent: 12.4 })).toBe("+1.5 mL (+12 %)");
  expect(changed({ ml: -3, percent: -50 })).toBe("-3.0 mL (-50 %)");
  expect(changed({ ml: 0, percent: null })).toBe("0.0 mL");
  expect(dayOf("2026-03-02")).toContain("2026");
  expect(dayOf("long ago")).toBe("long ago");
});

test("an alignment is told in millimetres and degrees, and an unknown one as it is called", () => {
  const rigid = { sequence: "T2" as const, method: "rigid", rotation_degrees: 2.44, shift_mm: 3.06, similarity: 0.934 };

  expect(alignedLine(rigid)).toBe("T2: moved by 3.1 mm, turned by 2.4° · fit 93 %");
  expect(alignedLine({ ...rigid, method: "none", similarity: null })).toBe("T2: same grid");
  expect(alignedLine({ ...rigid, method: "elastic", similarity: null })).toBe("T2: elastic");
});

test("of an archive's objects the worst counts", () => {
  const one = (state: Delivery["state"], attempts = 0): Delivery => ({
    ...{ id: "D", server: "default", kind: "seg", state, attempts, sent_at: null },
    error: attempts > 0 ? { code: "archive_away", message: "No answer." } : null,
  });

  expect(stateOf([]).state).toBe("none");
  expect(stateOf([one("sent"), one("sent")]).state).toBe("sent");
  expect(stateOf([one("sent"), one("waiting")])).toEqual({ state: "waiting", attempts: 0, error: null });
  expect(stateOf([one("waiting"), one("waiting", 3)]).state).toBe("retrying");
  expect(stateOf([one("waiting", 3), one("failed", 8)])).toMatchObject({ state: "failed", attempts: 8 });
});

test("a pull says where it stands and why it ended", () => {
  const pull: Pull = { id: "P", state: "running", done: 2, total: 0, study: null, error: null };

  expect(pullLine(pull)).toBe("Fetching 2 of … series");
  expect(pullLine({ ...pull, state: "queued" })).toBe("Waiting to be fetched…");
  expect(pullLine({ ...pull, state: "failed", error: { code: "archive_away", message: "No answer." } })).toBe(
    "Not fetched. No answer.",
  );
  expect(pullLine({ ...pull, state: "failed" })).toBe("Not fetched.");
});

test("in Korean the server's sentences are Korean, and one that nobody foresaw stays", () => {
  speak("ko");
  const missing =
    "T1CE and T2 are missing, and neither a worker here nor one that is away has any model of this route for T1 and FLAIR alone.";

  expect(told(missing, "sequence_missing")).toMatch(/^T1CE, T2 시퀀스가 없으며/);
  expect(told("The series given as T2 looks like FLAIR: fluid is bright.")).toContain("T2로 지정된");
  expect(told("It is a localizer, a scan to plan others by.", "localizer")).toBe(BY_CODE["localizer"]);
  expect(told("Something new.", "brand_new")).toBe("Something new.");
});

test("in English they stay as they are", () => {
  expect(told("It is a localizer, a scan to plan others by.", "localizer")).toContain("scan to plan");
});

test("an archive is asked for what was filled in, and names are escaped", async () => {
  const json = (content: unknown) => (): Response => Response.json(content);
  const found = { studies: [], is_complete: true };
  const { fetch, asked } = fakeFetch({
    "/api/pacs/": json({ servers: [] }),
    "/api/pacs/the%20ward/studies/?patient_name=KIM%5EMIN&accession=7": json(found),
    "/api/pacs/the%20ward/studies/1.2.3/pull/": json({ id: "P" }),
    "/api/pacs/default/jobs/J1/send/": json({ deliveries: [] }),
  });
  const archives = new Archives(new Http({ fetch }));

  await archives.all();
  const answer = await archives.search("the ward", { patient_id: "", patient_name: "KIM^MIN", accession: "7" });
  await archives.pull("the ward", "1.2.3");
  await archives.send("default", "J1");

  expect(answer).toEqual(found);
  expect(asked.map((line) => line.split(" ")[0])).toEqual(["GET", "GET", "POST", "POST"]);
});
