/**
 * While the socket does not come up: the same log by long-poll, over plain HTTP.
 *
 * The line goes on trying in the meantime; as soon as it is up, this stops.
 */

import type { Follower } from "./follower";
import { ProblemError } from "./http";
import { JobFollower, LOOK_MS } from "./jobs";

/** After a failure, and for a follower that has come since. */
const AGAIN_MS = 5_000;

export class Fallback {
  /** Whether the server answers over HTTP. */
  isReaching = false;
  private stopping: AbortController | null = null;
  private polled = new Set<Follower>();
  private timer: ReturnType<typeof setInterval> | undefined;

  constructor(
    private readonly followers: () => Iterable<Follower>,
    private readonly onReach: () => void,
    private readonly onSignedOut: (reason: string) => void,
  ) {}

  get isRunning(): boolean {
    return this.stopping !== null;
  }

  start(): void {
    if (this.stopping) return;
    this.stopping = new AbortController();
    this.polled = new Set();
    this.timer = setInterval(() => this.lookAround(), LOOK_MS);
    this.pick();
  }

  stop(): void {
    clearInterval(this.timer);
    this.stopping?.abort();
    this.stopping = null;
    this.isReaching = false;
  }

  /** Poll whoever is not polled yet. */
  pick(): void {
    for (const follower of this.followers()) {
      if (!this.stopping || this.polled.has(follower)) continue;
      this.polled.add(follower);
      void this.keepPolling(follower, this.stopping.signal);
    }
  }

  private lookAround(): void {
    const signal = this.stopping?.signal;
    if (!signal) return;
    for (const follower of this.followers()) {
      if (!(follower instanceof JobFollower)) continue;
      follower.look(signal).then(
        (hasAsked) => hasAsked && this.reach(true, signal),
        (error: unknown) => this.reach(error instanceof ProblemError, signal),
      );
    }
  }

  private async keepPolling(follower: Follower, signal: AbortSignal): Promise<void> {
    while (!signal.aborted && this.isFollowed(follower)) {
      let pause: number | null;
      try {
        pause = await follower.poll(signal);
        if (pause === null) return;
        this.reach(true, signal);
      } catch (error) {
        if (signal.aborted || !this.mayGoOn(follower, error)) return;
        pause = AGAIN_MS;
        this.reach(error instanceof ProblemError, signal);
      }
      await sleep(pause, signal);
    }
  }

  /** Signed out, or no longer allowed to see it: asking again would change nothing. */
  private mayGoOn(follower: Follower, error: unknown): boolean {
    if (!(error instanceof ProblemError)) return true;
    const { status, code, detail } = error;
    if (status === 401) this.onSignedOut(detail);
    else if (status === 403 || status === 404) follower.take({ t: "error", topic: follower.topic, code, detail });
    else return true;
    return false;
  }

  private isFollowed(follower: Follower): boolean {
    for (const one of this.followers()) if (one === follower) return true;
    return false;
  }

  private reach(isReaching: boolean, signal: AbortSignal): void {
    if (signal.aborted || this.isReaching === isReaching) return;
    this.isReaching = isReaching;
    this.onReach();
  }
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
