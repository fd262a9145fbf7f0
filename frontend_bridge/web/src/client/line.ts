/**
 * One WebSocket that keeps coming back. It knows nothing of topics.
 *
 * Signs in by the page's cookie, or by a fresh ticket on every connection where the page has none. Reconnects with full
 * jitter between 0.5 and 20 s, and at once when the page is seen again, comes back from the cache, or the network
 * returns. Browsers show no WebSocket pings, so it sends its own: every 15 s, answered in 10.
 */

import { readFrame, type ByeFrame, type ClientFrame, type ServerFrame } from "./frames";
import { ProblemError } from "./http";

export type LineState = "connecting" | "open" | "waiting" | "closed";

export interface LineOptions {
  url: string;
  WebSocket?: typeof WebSocket;
  random?: () => number;
  /** Fetches a single-use ticket for the first frame; without it the page's cookie signs in. */
  ticket?: () => Promise<string>;
  /** Where `visibilitychange`, `online` and `pageshow` are heard; none outside a browser. */
  page?: PageEvents;
  onState?: (state: LineState, bye: ByeFrame | null) => void;
  onOpen: () => void;
  onFrame: (frame: ServerFrame) => void;
  onBinary: (content: ArrayBuffer) => void;
}

export interface PageEvents {
  listen(heard: () => void): () => void;
}

export const PING_MS = 15_000;
export const PONG_MS = 10_000;
export const FLOOR_MS = 500;
export const CEILING_MS = 20_000;
const OPENING_MS = 15_000;
/** A connection that lived this long proves that the way is good. */
const SETTLED_MS = 30_000;
/** From here on a close code forbids coming back by itself; below, it invites to. */
const FORBIDDING = 4500;
export const SIGNED_OUT = 4501;

export class Line {
  state: LineState = "closed";
  /** Attempts in a row that did not last. */
  failures = 0;
  /** Whether a connection ever came up: a network that blocks WebSocket shows in the first failure. */
  hasOpened = false;
  private dialled = 0;
  private hasRetriedTicket = false;
  private socket: WebSocket | null = null;
  private bye: ByeFrame | null = null;
  private openedAt = 0;
  private readonly timers = new Map<"retry" | "ping" | "pong" | "opening", ReturnType<typeof setTimeout>>();
  private unlisten: (() => void) | null = null;

  constructor(private readonly options: LineOptions) {}

  open(): void {
    if (this.state !== "closed") return;
    this.unlisten = this.options.page?.listen(() => this.hurry()) ?? null;
    this.connect();
  }

  close(): void {
    this.unlisten?.();
    this.unlisten = null;
    this.drop();
    this.become("closed");
  }

  /** Never come back by itself, for this reason. */
  end(bye: ByeFrame): void {
    this.bye = bye;
    this.close();
  }

  send(frame: ClientFrame): boolean {
    if (this.state !== "open" || !this.socket) return false;
    this.socket.send(JSON.stringify(frame));
    return true;
  }

  /** The person looks again, or the network is back: do not wait for timers that may have slept. */
  hurry(): void {
    if (this.state === "waiting") this.connect();
    else if (this.state === "open") this.ping();
  }

  private connect(): void {
    this.drop();
    this.bye = null;
    this.become("connecting");
    this.start("opening", OPENING_MS, () => this.lost());
    if (!this.options.ticket) {
      this.dial(null);
      return;
    }
    const number = this.dialled;
    this.options.ticket().then(
      (ticket) => number === this.dialled && this.dial(ticket),
      (error: unknown) => number === this.dialled && this.noTicket(error),
    );
  }

  private dial(ticket: string | null): void {
    const Socket = this.options.WebSocket ?? WebSocket;
    const socket = new Socket(this.options.url);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    socket.onopen = () => this.opened(ticket);
    socket.onmessage = (event: MessageEvent) => this.heard(event.data as string | ArrayBuffer);
    socket.onclose = (event?: CloseEvent) => this.closed(event?.code ?? 1006);
    socket.onerror = () => undefined; // `close` follows
  }

  private noTicket(error: unknown): void {
    // Whoever is signed out over HTTP gets no ticket, and waiting would not change it.
    if (error instanceof ProblemError && (error.status === 401 || error.status === 403)) {
      this.hasRetriedTicket = true;
      this.bye = verdict(SIGNED_OUT, error.detail);
    }
    this.lost();
  }

  private opened(ticket: string | null): void {
    this.stop("opening");
    this.openedAt = Date.now();
    this.hasOpened = true;
    this.become("open");
    if (ticket !== null) this.send({ t: "auth", ticket });
    this.start("ping", PING_MS, () => this.ping());
    this.options.onOpen();
  }

  private heard(content: string | ArrayBuffer): void {
    this.stop("pong");
    if (typeof content !== "string") {
      this.options.onBinary(content);
      return;
    }
    const frame = readFrame(content);
    if (!frame) return;
    if (frame.t === "ping") this.send({ t: "pong", ts: frame.ts });
    else if (frame.t === "bye") this.bye = frame;
    else {
      if (frame.t !== "error") this.hasRetriedTicket = false;
      if (frame.t !== "pong") this.options.onFrame(frame);
    }
  }

  private ping(): void {
    this.start("ping", PING_MS, () => this.ping());
    if (this.timers.has("pong")) return;
    this.send({ t: "ping", ts: Date.now() });
    this.start("pong", PONG_MS, () => this.lost());
  }

  private lost(): void {
    if (this.state === "closed") return;
    const hasLasted = this.state === "open" && Date.now() - this.openedAt >= SETTLED_MS;
    this.failures = hasLasted ? 1 : this.failures + 1;
    this.drop();
    if (this.bye && !this.bye.reconnect && !this.mayRetryTicket(this.bye)) {
      this.close();
      return;
    }
    this.become("waiting");
    this.start("retry", this.pause(), () => this.connect());
  }

  private closed(code: number): void {
    // The reason of a close never arrives, so a `bye` comes before it; without one the code alone is the verdict.
    if (!this.bye && code >= FORBIDDING && code < 5000) this.bye = verdict(code, "");
    this.lost();
  }

  /** A ticket may have grown too old on the way, or its session may have been renewed: one fresh one is tried. */
  private mayRetryTicket(bye: ByeFrame): boolean {
    if (!this.options.ticket || bye.code !== SIGNED_OUT || this.hasRetriedTicket) return false;
    this.hasRetriedTicket = true;
    return true;
  }

  private pause(): number {
    const random = this.options.random ?? Math.random;
    const widest = Math.min(CEILING_MS, FLOOR_MS * 2 ** this.failures);
    const asked = (this.bye?.retry_after_s ?? 0) * 1000;
    return asked + FLOOR_MS + random() * (widest - FLOOR_MS);
  }

  private drop(): void {
    for (const name of [...this.timers.keys()]) this.stop(name);
    this.dialled += 1; // a ticket that arrives now is too late
    const socket = this.socket;
    this.socket = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = socket.onerror = null;
    socket.close();
  }

  private become(state: LineState): void {
    if (this.state === state) return;
    this.state = state;
    this.options.onState?.(state, this.bye);
  }

  private start(name: "retry" | "ping" | "pong" | "opening", ms: number, act: () => void): void {
    this.stop(name);
    this.timers.set(
      name,
      setTimeout(() => {
        this.timers.delete(name);
        act();
      }, ms),
    );
  }

  private stop(name: "retry" | "ping" | "pong" | "opening"): void {
    clearTimeout(this.timers.get(name));
    this.timers.delete(name);
  }
}

/** A bye that forbids coming back. */
export function verdict(code: number, reason: string): ByeFrame {
  return { t: "bye", code, reason, reconnect: false, retry_after_s: 0 };
}

/** The events of a browser's page. */
export const browserPage: PageEvents = {
  listen(heard) {
    const seen = (): void => {
      if (document.visibilityState === "visible") heard();
    };
    document.addEventListener("visibilitychange", seen);
    window.addEventListener("online", heard);
    window.addEventListener("pageshow", heard);
    return () => {
      document.removeEventListener("visibilitychange", seen);
      window.removeEventListener("online", heard);
      window.removeEventListener("pageshow", heard);
    };
  },
};
