/** How OHIF's page comes in: with the person's session at Segwire, or with an API token. */

import { ProblemError, SegmentationClient, type ClientOptions } from "../client";

export type TokenSource = string | (() => string | Promise<string>);
const KEPT = "segwire.token";

/** Nobody is signed in, or the token is not known. */
export class SignInNeeded extends Error {
  constructor(readonly isTokenRefused: boolean) {
    super("Sign in to Segwire first.");
    this.name = "SignInNeeded";
  }
}

export class Access {
  /** Of this window, until it is closed. */
  private given: string | null = null;

  constructor(
    readonly server: string,
    private readonly source: TokenSource | undefined,
    private readonly options: ClientOptions = {},
  ) {}

  /** A token that the person has pasted. */
  remember(token: string): void {
    this.given = token.trim() || null;
    try {
      if (this.given) sessionStorage.setItem(KEPT, this.given);
      else sessionStorage.removeItem(KEPT);
    } catch {
      // Kept by this object alone.
    }
  }

  /**
   * A client of somebody who is signed in. Throws SignInNeeded.
   *
   * The session comes along because both are of one site; on another site a browser leaves it out, and then only a
   * token helps.
   */
  async client(onConnection?: ClientOptions["onConnection"]): Promise<SegmentationClient> {
    const apiToken = await this.token();
    let csrfToken = "";
    const client = new SegmentationClient({
      ...this.options,
      baseUrl: this.server,
      onConnection,
      ...(apiToken ? { apiToken } : { credentials: "include" as const, csrfToken: () => csrfToken }),
    });
    try {
      csrfToken = (await client.http.get<{ csrf_token: string }>("/api/session/")).csrf_token;
    } catch (error) {
      if (!(error instanceof ProblemError && error.status === 401)) throw error;
      if (apiToken) this.remember("");
      throw new SignInNeeded(Boolean(apiToken));
    }
    return client;
  }

  private async token(): Promise<string | null> {
    if (this.given) return this.given;
    if (this.source) return typeof this.source === "string" ? this.source : await this.source();
    try {
      return sessionStorage.getItem(KEPT);
    } catch {
      return null;
    }
  }
}
