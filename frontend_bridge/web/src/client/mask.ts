/** Putting a pushed mask together from binary frames. */

import { sha256Hex } from "./digest";
import type { MaskBeginFrame } from "./frames";

export class MaskAssembly {
  readonly job: string;
  private readonly begin: MaskBeginFrame;
  private readonly parts: Uint8Array[] = [];
  private size = 0;

  constructor(begin: MaskBeginFrame) {
    this.begin = begin;
    this.job = begin.job;
  }

  add(part: ArrayBuffer): void {
    // More than was announced is not kept: the digest fails anyway.
    if (this.size + part.byteLength > this.begin.size) return;
    this.parts.push(new Uint8Array(part));
    this.size += part.byteLength;
  }

  /** The gzip NIfTI file, or null when frames are missing or the digest differs. */
  async finish(): Promise<Uint8Array<ArrayBuffer> | null> {
    if (this.size !== this.begin.size || this.parts.length !== this.begin.frames) return null;
    const whole = new Uint8Array(this.size);
    let offset = 0;
    for (const part of this.parts) {
      whole.set(part, offset);
      offset += part.length;
    }
    return (await sha256Hex(whole)) === this.begin.sha256 ? whole : null;
  }
}
