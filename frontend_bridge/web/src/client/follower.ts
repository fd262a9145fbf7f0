/**
 * Following one topic: nothing missed, nothing twice.
 *
 * A follower knows its epoch and seq. Events at or before its seq are dropped, a gap makes it subscribe again from
 * its seq, and frames of an earlier subscription are known by their id and dropped.
 */

import type {
  ErrorFrame,
  EventFrame,
  PreviewFrame,
  ProgressFrame,
  ServerFrame,
  Snapshot,
  SubFrame,
  TelemetryFrame,
} from "./frames";

export type NewsFrame = ProgressFrame | PreviewFrame | TelemetryFrame;

export abstract class Follower {
  epoch: string | null = null;
  seq = 0;
  private joins = 0;
  private isJoined = false;

  constructor(
    readonly topic: string,
    private readonly transmit: (frame: SubFrame) => boolean,
  ) {}

  /** Called on every new connection, and after a gap. */
  join(): void {
    this.isJoined = false;
    this.joins += 1;
    const frame: SubFrame = { t: "sub", topic: this.topic, id: this.id, mask: this.wantsMask() ? "push" : "url" };
    if (this.epoch !== null) Object.assign(frame, { epoch: this.epoch, seq: this.seq });
    this.transmit(frame);
  }

  take(frame: ServerFrame): void {
    if ("id" in frame && frame.id !== undefined && frame.id !== this.id) return;
    if (frame.t === "sub.ok") {
      this.isJoined = true;
      this.epoch = frame.epoch;
      if (!frame.recovered) {
        this.seq = frame.seq;
        this.onSnapshot(frame.snapshot);
      }
    } else if (frame.t === "event") {
      this.takeEvent(frame);
    } else if (frame.t === "progress" || frame.t === "preview" || frame.t === "telemetry") {
      this.onNews(frame);
    } else if (frame.t === "error") {
      this.onTrouble(frame);
    }
  }

  private takeEvent(frame: EventFrame): void {
    if (!this.isJoined || frame.seq <= this.seq) return;
    if (frame.seq > this.seq + 1) {
      this.join();
      return;
    }
    this.seq = frame.seq;
    this.onEvent(frame);
  }

  /** Distinguishes this subscription's frames from those of an earlier one on the same socket. */
  get id(): string {
    return `${this.topic}#${this.joins}`;
  }

  /**
   * Without a socket: ask once over HTTP, and answer after how many milliseconds to ask again; null: there is no way
   * but the socket. It may wait on the server, and must then heed `signal`.
   */
  poll(_signal: AbortSignal): Promise<number | null> {
    return Promise.resolve(null);
  }

  protected wantsMask(): boolean {
    return false;
  }

  protected abstract onSnapshot(snapshot: Snapshot): void;
  protected abstract onEvent(frame: EventFrame): void;
  protected abstract onNews(frame: NewsFrame): void;
  protected abstract onTrouble(frame: ErrorFrame): void;
}
