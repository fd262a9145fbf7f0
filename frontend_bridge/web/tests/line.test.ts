import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { CEILING_MS, FLOOR_MS, Line, PING_MS, PONG_MS, type PageEvents } from "../src/client/line";
import type { ServerFrame } from "../src/client/frames";
import { FakeSocket, asWebSocket } from "./fakes";

let frames: ServerFrame[];
let states: string[];
let line: Line;
let wake: () => void;

beforeEach(() => {
  vi.useFakeTimers();
  FakeSocket.all = [];
  frames = [];
  states = [];
  const page: PageEvents = {
    listen: (heard) => {
      wake = heard;
      return () => undefined;
    },
  };
  line = new Line({
    url: "ws://host/ws/segmentation/",
    WebSocket: asWebSocket,
    random: () => 1,
    page,
    onState: (state) => states.push(state),
    onOpen: () => undefined,
    onFrame: (frame) => frames.push(frame),
    onBinary: () => undefined,
  });
  line.open();
});

afterEach(() => vi.useRealTimers());

test("a dropped connection comes back, later each time, never later than the ceiling", () => {
  const waited: number[] = [];

  for (let attempt = 0; attempt < 9; attempt++) {
    FakeSocket.latest.drops();
    const before = FakeSocket.all.length;
    const start = Date.now();
    while (FakeSocket.all.length === before) vi.advanceTimersByTime(100);
    waited.push(Date.now() - start);
  }

  expect(waited[0]).toBeLessThanOrEqual(2 * FLOOR_MS + 100);
  expect(waited[3]).toBeGreaterThan(waited[0]);
  expect(Math.max(...waited)).toBeLessThanOrEqual(CEILING_MS + 100);
});

test("a silent connection is given up ten seconds after a ping", () => {
  FakeSocket.latest.opens();

  vi.advanceTimersByTime(PING_MS);
  const pinged = FakeSocket.latest.sent.map((frame) => frame["t"]);
  vi.advanceTimersByTime(PONG_MS);

  expect(pinged).toEqual(["ping"]);
  expect(FakeSocket.all[0].isClosed).toBe(true);
  expect(line.state).toBe("waiting");
});

test("anything heard counts as the answer to a ping", () => {
  FakeSocket.latest.opens();

  vi.advanceTimersByTime(PING_MS);
  FakeSocket.latest.says({ t: "progress", topic: "job:J1" });
  vi.advanceTimersByTime(PONG_MS);

  expect(line.state).toBe("open");
});

test("looking at the page again reconnects at once", () => {
  FakeSocket.latest.drops();

  wake();

  expect(FakeSocket.all).toHaveLength(2);
  expect(line.state).toBe("connecting");
});

test("a bye that forbids it ends the reconnecting, and says so", () => {
  FakeSocket.latest.opens();
  FakeSocket.latest.says({ t: "bye", code: 4501, reason: "Sign in.", reconnect: false, retry_after_s: 0 });

  FakeSocket.latest.drops();
  vi.advanceTimersByTime(10 * CEILING_MS);

  expect(FakeSocket.all).toHaveLength(1);
  expect(states.at(-1)).toBe("closed");
});

test("a bye that asks for a pause gets at least that pause", () => {
  FakeSocket.latest.opens();
  FakeSocket.latest.says({ t: "bye", code: 4000, reason: "Restart.", reconnect: true, retry_after_s: 4 });

  FakeSocket.latest.drops();
  vi.advanceTimersByTime(4000);

  expect(FakeSocket.all).toHaveLength(1);
  vi.advanceTimersByTime(2 * FLOOR_MS + 100);
  expect(FakeSocket.all).toHaveLength(2);
});

test("the server's own ping is answered, and what is no frame is ignored", () => {
  FakeSocket.latest.opens();

  FakeSocket.latest.says({ t: "ping", ts: 7 });
  FakeSocket.latest.onmessage?.({ data: "not json" });

  expect(FakeSocket.latest.sent).toEqual([{ t: "pong", ts: 7 }]);
  expect(frames).toEqual([]);
});

test.each([
  [4501, "closed"],
  [4503, "closed"],
  [4409, "waiting"],
  [1000, "waiting"],
  [1006, "waiting"],
])("a close with %i and no bye ends in %s", (code, state) => {
  FakeSocket.latest.opens();

  FakeSocket.latest.drops(code);

  expect(line.state).toBe(state);
});

test("a bye that invites back wins over the code", () => {
  FakeSocket.latest.opens();
  FakeSocket.latest.says({ t: "bye", code: 4501, reason: "", reconnect: true, retry_after_s: 0 });

  FakeSocket.latest.drops(4501);

  expect(line.state).toBe("waiting");
});
