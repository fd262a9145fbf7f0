import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { SegmentationClient, type Job } from "../src/client";
import { sha256Hex } from "../src/client/digest";
import { PUSH_GRACE_MS } from "../src/client/jobs";
import { FakeSocket, asWebSocket, fakeFetch, finished, job } from "./fakes";

const TOPIC = "job:J1";
const MASK_URL = "/api/mri/segmentation/jobs/J1/mask.nii.gz";
const MASK = new Uint8Array([31, 139, 1, 2, 3, 4, 5]);

let jobs: Job[];
let masks: Uint8Array[];
let troubles: string[];

beforeEach(() => {
  vi.useFakeTimers();
  FakeSocket.all = [];
  jobs = [];
  masks = [];
  troubles = [];
});

afterEach(() => vi.useRealTimers());

function following(fetching?: typeof fetch): SegmentationClient {
  const client = new SegmentationClient({
    socketUrl: "ws://host/ws/segmentation/",
    WebSocket: asWebSocket,
    random: () => 0,
    fetch: fetching ?? fakeFetch({}).fetch,
  });
  client.watchJob("J1", {
    onJob: (now) => jobs.push(now),
    onMask: (file) => masks.push(file),
    onTrouble: (trouble) => troubles.push(trouble.code),
  });
  return client;
}

function joined(snapshot: Job = job()): void {
  FakeSocket.latest.opens();
  const { id } = FakeSocket.latest.subs()[0];
  FakeSocket.latest.says({ t: "sub.ok", id, topic: TOPIC, epoch: "e1", seq: snapshot.seq, recovered: false, snapshot });
}

const subId = (): unknown => FakeSocket.latest.subs().at(-1)?.["id"];
const event = (seq: number, changes: Partial<Job> = {}): Record<string, unknown> => ({
  t: "event",
  id: subId(),
  topic: TOPIC,
  seq,
  type: "changed",
  job: job({ seq, ...changes }),
});
test("events are applied in order, and old ones are dropped", () => {
  following();
  joined();

  FakeSocket.latest.says(event(2, { state: "leased" }));
  FakeSocket.latest.says(event(2, { state: "failed" }));
  FakeSocket.latest.says(event(3, { state: "running" }));

  expect(jobs.map((one) => one.state)).toEqual(["queued", "leased", "running"]);
});

test("a gap makes it subscribe again from what it has", () => {
  following();
  joined();

  FakeSocket.latest.says(event(2));
  FakeSocket.latest.says(event(4));

  expect(FakeSocket.latest.subs().at(-1)).toMatchObject({ topic: TOPIC, epoch: "e1", seq: 2 });
});

test("frames of an earlier subscription are dropped", () => {
  following();
  joined();
  const late = event(3, { state: "failed" });

  FakeSocket.latest.says(event(5));
  FakeSocket.latest.says({ ...late, seq: 2 });

  expect(jobs).toHaveLength(1);
});

test("a new connection resumes by epoch and seq", () => {
  following();
  joined();
  FakeSocket.latest.says(event(2));

  FakeSocket.latest.drops();
  vi.advanceTimersByTime(30_000);
  FakeSocket.latest.opens();
  FakeSocket.latest.says({
    t: "sub.ok",
    id: subId(),
    topic: TOPIC,
    epoch: "e1",
    seq: 2,
    recovered: true,
    snapshot: job({ seq: 4 }),
  });
  FakeSocket.latest.says(event(3, { state: "running" }));

  expect(FakeSocket.latest.subs()[0]).toMatchObject({ epoch: "e1", seq: 2 });
  expect(jobs.at(-1)?.state).toBe("running");
});

test("what cannot be recovered is taken from the snapshot", () => {
  following();
  joined();

  FakeSocket.latest.drops();
  vi.advanceTimersByTime(30_000);
  FakeSocket.latest.opens();
  FakeSocket.latest.says({
    t: "sub.ok",
    id: subId(),
    topic: TOPIC,
    epoch: "e2",
    seq: 9,
    recovered: false,
    snapshot: job({ state: "running", seq: 9, epoch: "e2" }),
  });
  FakeSocket.latest.says(event(10, { state: "cancelled" }));

  expect(jobs.map((one) => one.state)).toEqual(["queued", "running", "cancelled"]);
});

test("progress never runs backwards within an attempt", () => {
  following();
  joined(job({ state: "running", attempt: 1, progress: 0.5 }));

  FakeSocket.latest.says({
    t: "progress",
    id: subId(),
    topic: TOPIC,
    stage: "inference",
    progress: 0.4,
    eta_seconds: 9,
    queue_position: null,
  });
  FakeSocket.latest.says(event(2, { state: "running", attempt: 1, progress: 0.45 }));
  FakeSocket.latest.says(event(3, { state: "running", attempt: 2, progress: 0.1 }));

  expect(jobs.map((one) => one.progress)).toEqual([0.5, 0.5, 0.5, 0.1]);
  expect(jobs[1].eta_seconds).toBe(9);
});

test("a pushed mask is put together and checked", async () => {
  following();
  joined();
  const sha256 = await sha256Hex(MASK);

  FakeSocket.latest.says(event(2, finished(sha256)));
  FakeSocket.latest.says({ t: "mask.begin", id: subId(), job: "J1", size: 7, sha256, frames: 2, format: "nii.gz" });
  FakeSocket.latest.saysBytes(MASK.slice(0, 4));
  FakeSocket.latest.says({ t: "progress", id: subId(), topic: TOPIC, progress: 1 });
  FakeSocket.latest.saysBytes(MASK.slice(4));
  FakeSocket.latest.says({ t: "mask.end", id: subId(), job: "J1" });
  await vi.waitFor(() => expect(masks).toEqual([MASK]));

  await vi.advanceTimersByTimeAsync(PUSH_GRACE_MS * 2);
  expect(masks).toHaveLength(1);
  expect(troubles).toEqual([]);
});

test("a mask with a missing frame is fetched from its address", async () => {
  const sha256 = await sha256Hex(MASK);
  const server = fakeFetch({ [MASK_URL]: () => new Response(MASK) });
  following(server.fetch);
  joined();

  FakeSocket.latest.says(event(2, finished(sha256)));
  FakeSocket.latest.says({ t: "mask.begin", id: subId(), job: "J1", size: 7, sha256, frames: 2, format: "nii.gz" });
  FakeSocket.latest.saysBytes(MASK.slice(0, 4));
  FakeSocket.latest.says({ t: "mask.end", id: subId(), job: "J1" });
  await vi.waitFor(() => expect(masks).toEqual([MASK]));

  expect(server.asked).toEqual([`GET ${MASK_URL}`]);
});

test("a mask that is too large to be pushed is fetched from its address", async () => {
  const sha256 = await sha256Hex(MASK);
  const server = fakeFetch({ [MASK_URL]: () => new Response(MASK) });
  following(server.fetch);

  joined(finished(sha256));
  await vi.advanceTimersByTimeAsync(PUSH_GRACE_MS);
  await vi.waitFor(() => expect(masks).toEqual([MASK]));

  expect(FakeSocket.latest.subs()[0]).toMatchObject({ mask: "push" });
});

test("a mask that is damaged on every way is trouble, not a picture", async () => {
  const server = fakeFetch({ [MASK_URL]: () => new Response(new Uint8Array([9])) });
  following(server.fetch);

  joined(finished(await sha256Hex(MASK)));
  await vi.advanceTimersByTimeAsync(PUSH_GRACE_MS);
  await vi.waitFor(() => expect(troubles).toEqual(["mask_damaged"]));

  expect(masks).toEqual([]);
});

test("once the mask is there, a new connection asks for its address only", async () => {
  const sha256 = await sha256Hex(MASK);
  following(fakeFetch({ [MASK_URL]: () => new Response(MASK) }).fetch);
  joined(finished(sha256));
  await vi.advanceTimersByTimeAsync(PUSH_GRACE_MS);
  await vi.waitFor(() => expect(masks).toHaveLength(1));

  FakeSocket.latest.drops();
  await vi.advanceTimersByTimeAsync(30_000);
  FakeSocket.latest.opens();

  expect(FakeSocket.latest.subs()[0]).toMatchObject({ mask: "url" });
});

test("a request posts the four series and says where it shall run", async () => {
  const path = "/api/mri/segmentation/series/S2/segment/?use_local=true";
  const server = fakeFetch({ [path]: () => Response.json(job(), { status: 202 }) });
  const client = new SegmentationClient({ fetch: server.fetch, csrfToken: () => "token" });

  const answer = await client.request("S2", { sequenceSeriesIds: ["S1", "S2", "S3", "S4"], useLocal: true });

  expect(answer.id).toBe("J1");
  expect(server.asked).toEqual([`POST ${path}`]);
});

test("a refusal carries the server's sentence", async () => {
  const problem = {
    type: "about:blank",
    title: "Unclear",
    status: 422,
    detail: "Two series are T1.",
    code: "sequences_unclear",
  };
  const path = "/api/mri/segmentation/series/S2/segment/";
  const client = new SegmentationClient({
    fetch: fakeFetch({ [path]: () => Response.json(problem, { status: 422 }) }).fetch,
  });

  await expect(client.request("S2", { sequenceSeriesIds: [] })).rejects.toMatchObject({
    code: "sequences_unclear",
    detail: "Two series are T1.",
  });
});
