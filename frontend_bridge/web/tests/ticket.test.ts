import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { SegmentationClient } from "../src/client";
import { FakeSocket, asWebSocket, job } from "./fakes";

let given: number;
let answer: () => Response | Promise<Response>;
let states: string[];
let client: SegmentationClient;

beforeEach(() => {
  vi.useFakeTimers();
  FakeSocket.all = [];
  given = 0;
  states = [];
  answer = () => Response.json({ ticket: `segt_${(given += 1)}`, expires_in: 30 });
  client = new SegmentationClient({
    baseUrl: "https://segwire.example",
    apiToken: "sega_1",
    WebSocket: asWebSocket,
    random: () => 0,
    fetch: (async (path: string, init?: RequestInit) => {
      expect(path).toBe("https://segwire.example/api/ws-ticket/");
      expect(init?.method).toBe("POST");
      expect((init?.headers as Record<string, string>)["Authorization"]).toBe("Bearer sega_1");
      return answer();
    }) as typeof fetch,
    onConnection: (state) => states.push(state),
  });
  client.watchJob("J1", { onJob: () => undefined });
});

afterEach(() => {
  client.close();
  vi.useRealTimers();
});

const settle = (ms = 0): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);
const BYE = { t: "bye", code: 4501, reason: "The ticket is wrong.", reconnect: false, retry_after_s: 0 };

test("a viewer on another page shows a ticket first, and a new one on every connection", async () => {
  await settle();
  FakeSocket.latest.opens();
  const first = FakeSocket.latest.sent.map((frame) => [frame["t"], frame["ticket"]]);
  FakeSocket.latest.drops();
  await settle(1000);
  FakeSocket.latest.opens();

  expect(FakeSocket.latest.url).toBe("wss://segwire.example/ws/segmentation/");
  expect(first).toEqual([
    ["auth", "segt_1"],
    ["sub", undefined],
  ]);
  expect(FakeSocket.latest.sent[0]).toEqual({ t: "auth", ticket: "segt_2" });
});

test("one ticket that came too late is followed by a fresh one, a second ends it", async () => {
  await settle();
  FakeSocket.latest.opens();
  FakeSocket.latest.says(BYE);
  FakeSocket.latest.drops(4501);
  const afterOne = states.at(-1);
  await settle(1000);
  FakeSocket.latest.opens();
  FakeSocket.latest.says(BYE);
  FakeSocket.latest.drops(4501);
  await settle(60_000);

  expect([afterOne, states.at(-1), given]).toEqual(["waiting", "closed", 2]);
});

test("a socket that was served may ask for a fresh ticket again", async () => {
  for (const _ of [1, 2, 3]) {
    await settle(1000);
    FakeSocket.latest.opens();
    const id = FakeSocket.latest.subs()[0]?.["id"];
    FakeSocket.latest.says({ t: "sub.ok", id, topic: "job:J1", epoch: "e", seq: 1, recovered: false, snapshot: job() });
    FakeSocket.latest.says(BYE);
    FakeSocket.latest.drops(4501);
  }

  expect([states.at(-1), given]).toEqual(["waiting", 3]);
});

test("who gets no ticket is signed out and opens no socket", async () => {
  answer = () => Response.json({ code: "not_signed_in", detail: "Sign in first." }, { status: 401 });
  FakeSocket.all = [];
  client.close();
  states = [];
  client.watchJob("J2", { onJob: () => undefined });
  await settle(60_000);

  expect(FakeSocket.all).toEqual([]);
  expect(states).toEqual(["connecting", "closed"]);
});

test("a server that cannot be reached for a ticket is tried again", async () => {
  client.close();
  FakeSocket.all = [];
  answer = () => Promise.reject(new TypeError("offline"));
  client.watchJob("J2", { onJob: () => undefined });
  await settle(2000);
  answer = () => Response.json({ ticket: "segt_9", expires_in: 30 });
  await settle(20_000);

  expect(FakeSocket.all).not.toEqual([]);
});
