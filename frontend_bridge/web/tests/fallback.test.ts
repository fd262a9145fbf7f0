import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { SegmentationClient, type Job } from "../src/client";
import { sha256Hex } from "../src/client/digest";
import { FakeSocket, asWebSocket, finished, job } from "./fakes";

const MASK = new Uint8Array([31, 139, 1, 2, 3]);
const JOB_URL = "/api/mri/segmentation/jobs/J1/";

/** A server behind a proxy that blocks WebSocket: one job with its log, and a mask. */
class FakeServer {
  log: Job[] = [job()];
  epoch = "e1";
  isReachable = true;
  status = 200;
  asked: string[] = [];
  private readonly waiting = new Set<() => void>();

  happens(changes: Partial<Job>): void {
    this.log.push({ ...job(changes), seq: this.log.length + 1 });
    this.waiting.forEach((wake) => wake());
  }

  readonly fetch = (async (input: string, init?: RequestInit): Promise<Response> => {
    this.asked.push(input);
    if (!this.isReachable) throw new TypeError("offline");
    if (this.status !== 200) return Response.json({ code: "no", detail: "No." }, { status: this.status });
    if (input.includes("/events?")) return this.events(Number(/since=(\d+)/.exec(input)?.[1]), init?.signal);
    if (input === JOB_URL) return Response.json({ ...this.log.at(-1), epoch: this.epoch });
    if (input.includes("mask.nii.gz")) return new Response(MASK);
    if (input.includes("?study=")) return Response.json({ jobs: this.log.slice(-1) });
    return Response.json({ ticket: "segt_1", expires_in: 30 });
  }) as typeof fetch;

  private async events(since: number, signal?: AbortSignal | null): Promise<Response> {
    if (this.log.length <= since) {
      await new Promise<void>((resolve, reject) => {
        const end = setTimeout(resolve, 20_000);
        this.waiting.add(resolve);
        signal?.addEventListener("abort", () => (clearTimeout(end), reject(new DOMException("", "AbortError"))));
      });
    }
    const found = this.log.slice(since).map((one) => ({ seq: one.seq, type: "changed", job: one }));
    return Response.json({ epoch: this.epoch, seq: this.log.length, events: found });
  }
}

let server: FakeServer;
let client: SegmentationClient;
let seen: Job[];
let masks: Uint8Array[];
let troubles: string[];
let told: string[];

beforeEach(() => {
  vi.useFakeTimers();
  FakeSocket.all = [];
  server = new FakeServer();
  seen = [];
  masks = [];
  troubles = [];
  told = [];
  client = new SegmentationClient({
    socketUrl: "ws://host/ws/segmentation/",
    WebSocket: asWebSocket,
    random: () => 0,
    fetch: server.fetch,
    onConnection: (state, _, isSlow) => told.push(isSlow ? "slow" : state),
  });
  client.watchJob("J1", {
    onJob: (now) => seen.push(now),
    onMask: (file) => masks.push(file),
    onTrouble: (trouble) => troubles.push(trouble.code),
  });
});

afterEach(() => {
  client.close();
  vi.useRealTimers();
});

/** The proxy answers every handshake with a page of its own. */
async function blocked(seconds: number): Promise<void> {
  for (let passed = 0; passed < seconds; passed++) {
    if (!FakeSocket.latest.isClosed) FakeSocket.latest.drops();
    await vi.advanceTimersByTimeAsync(1000);
  }
}

/** Each change once: looking at the progress shows the same one again. */
const states = (): string[] => [...new Set(seen.map((one) => `${one.state}/${one.seq}`))];

test("where WebSocket is blocked, every change arrives in order by long-poll, and then the mask", async () => {
  await blocked(2);
  server.happens({ state: "leased" });
  server.happens({ state: "running", attempt: 1 });
  await blocked(2);
  server.happens(finished(await sha256Hex(MASK)));
  await vi.waitFor(() => expect(masks).toEqual([MASK]));

  expect(states()).toEqual(["queued/1", "leased/2", "running/3", "succeeded/4"]);
  expect(told).toContain("slow");
  expect(troubles).toEqual([]);
});

test("between two changes the progress is looked at", async () => {
  server.happens({ state: "running", attempt: 1, progress: 0.1 });
  await blocked(2);
  server.log[1] = { ...server.log[1], progress: 0.4 };
  await blocked(6);

  expect(seen.at(-1)?.progress).toBe(0.4);
});

test("as soon as the socket is up the requests stop, and the log goes on from where it was", async () => {
  await blocked(2);
  server.happens({ state: "leased" });
  await blocked(2);
  FakeSocket.latest.opens();
  const asked = server.asked.length;
  await vi.advanceTimersByTimeAsync(12_000);

  expect(FakeSocket.latest.subs()[0]).toMatchObject({ epoch: "e1", seq: 2 });
  expect(server.asked).toHaveLength(asked);
  expect(told.at(-1)).toBe("open");
});

test("a log that starts a new life is taken from its snapshot", async () => {
  server.happens({ state: "running", attempt: 1 });
  await blocked(2);
  server.epoch = "e2";
  server.log = [job({ epoch: "e2" })];
  server.happens({ state: "cancelled", epoch: "e2" });
  await blocked(25);

  expect(states()).toEqual(["running/2", "cancelled/2"]);
});

test("offline is not slow, and what happened meanwhile is there afterwards", async () => {
  await blocked(2);
  server.isReachable = false;
  server.happens({ state: "leased" });
  await blocked(30);
  const whileAway = told.at(-1);
  server.isReachable = true;
  await blocked(8);

  expect(whileAway).not.toBe("slow");
  expect(told.at(-1)).toBe("slow");
  expect(states()).toEqual(["queued/1", "leased/2"]);
});

test("who is signed out is told so and asks no more", async () => {
  await blocked(2);
  server.status = 401;
  server.happens({ state: "leased" });
  await blocked(3);
  const asked = server.asked.length;
  await vi.advanceTimersByTimeAsync(60_000);

  expect(told.at(-1)).toBe("closed");
  expect(server.asked).toHaveLength(asked);
});

test("a job that may not be seen is trouble and not a loop", async () => {
  server.status = 404;
  await blocked(10);

  expect(troubles).toEqual(["no"]);
  expect(server.asked.filter((path) => path === JOB_URL)).toHaveLength(1);
});

test("a proxy that answers at once what the server would hold makes no storm", async () => {
  const events = server.fetch;
  const hasty = (input: string, init?: RequestInit): Promise<Response> =>
    input.includes("/events?")
      ? (server.asked.push(input), Promise.resolve(Response.json({ epoch: "e1", seq: 1, events: [] })))
      : (events as (input: string, init?: RequestInit) => Promise<Response>)(input, init);
  Object.assign(client.http, { options: { fetch: hasty } });
  await blocked(10);

  expect(server.asked.filter((path) => path.includes("/events?")).length).toBeLessThan(12);
});

test("a study is looked at now and then, and told when its jobs have changed", async () => {
  const lists: number[] = [];
  client.watchStudy("ST", { onJobs: (jobs) => lists.push(jobs.length), onChange: () => undefined });
  await blocked(12);
  server.happens({ state: "leased" });
  await blocked(12);

  expect(lists).toEqual([1, 1]);
});

test("ten minutes offline: the socket comes back when the page is seen, and nothing is missing", async () => {
  FakeSocket.latest.opens();
  const first = FakeSocket.latest.subs()[0]?.["id"];
  FakeSocket.latest.says({
    t: "sub.ok",
    id: first,
    topic: "job:J1",
    epoch: "e1",
    seq: 1,
    recovered: false,
    snapshot: job(),
  });
  server.isReachable = false;
  await blocked(600);
  FakeSocket.latest.opens();
  const { id, epoch, seq } = FakeSocket.latest.subs()[0] as { id: string; epoch: string; seq: number };
  FakeSocket.latest.says({ t: "sub.ok", id, topic: "job:J1", epoch, seq, recovered: true, snapshot: job({ seq: 4 }) });
  for (const next of [2, 3, 4]) {
    const now = job({ seq: next, state: next === 4 ? "failed" : "running", attempt: next });
    FakeSocket.latest.says({ t: "event", id, topic: "job:J1", seq: next, type: "changed", job: now });
  }

  expect([epoch, seq]).toEqual(["e1", 1]);
  expect(states()).toEqual(["queued/1", "running/2", "running/3", "failed/4"]);
  expect(FakeSocket.all.length).toBeGreaterThan(20);
  expect(FakeSocket.all.length).toBeLessThan(700);
});

test("a click while offline says so, and the next one works", async () => {
  server.isReachable = false;
  await expect(client.request("S2", { sequenceSeriesIds: ["S1"] })).rejects.toThrow("cannot be reached");
  server.isReachable = true;

  await expect(client.request("S2", { sequenceSeriesIds: ["S1"] })).resolves.toBeTruthy();
});
