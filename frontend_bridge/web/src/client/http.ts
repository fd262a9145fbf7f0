/** The JSON API. Failures have a type: what the server refused, and what never reached it. */

export interface HttpOptions {
  /** Where the server is; empty: where the page came from. */
  baseUrl?: string;
  /** Django's CSRF token, for a session cookie. */
  csrfToken?: () => string | null;
  /** An API token instead of a session. */
  apiToken?: string;
  /** "include": a page on another origin of the same site, which the server lists, comes with the person's session. */
  credentials?: RequestCredentials;
  fetch?: typeof fetch;
}

/** The server understood and said no (RFC 9457). `detail` is a sentence for the person. */
export class ProblemError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    readonly title: string,
    readonly detail: string,
    readonly extra: Record<string, unknown> = {},
  ) {
    super(detail || title);
    this.name = "ProblemError";
  }
}

/** The server could not be reached. */
export class UnreachableError extends Error {
  constructor(cause: unknown) {
    super("The server cannot be reached.", { cause });
    this.name = "UnreachableError";
  }
}

export class Http {
  readonly baseUrl: string;
  private readonly options: HttpOptions;

  constructor(options: HttpOptions = {}) {
    this.options = options;
    this.baseUrl = (options.baseUrl ?? "").replace(/\/$/, "");
  }

  async get<T>(path: string, signal?: AbortSignal): Promise<T> {
    return (await this.send("GET", path, { signal })).json() as Promise<T>;
  }

  post<T>(path: string, body?: unknown, headers: Record<string, string> = {}): Promise<T> {
    return this.change("POST", path, body, headers);
  }

  patch<T>(path: string, body: unknown): Promise<T> {
    return this.change("PATCH", path, body, {});
  }

  private async change<T>(method: string, path: string, body: unknown, headers: Record<string, string>): Promise<T> {
    const isForm = body instanceof FormData;
    const response = await this.send(method, path, {
      body: body === undefined ? undefined : isForm ? body : JSON.stringify(body),
      headers: isForm || body === undefined ? headers : { "Content-Type": "application/json", ...headers },
    });
    return response.json() as Promise<T>;
  }

  /** The bytes of a file; `onBytes` hears how many have come and how many there are, if that is known. */
  async bytes(
    path: string,
    onBytes?: (loaded: number, total: number | null) => void,
    signal?: AbortSignal,
  ): Promise<Uint8Array<ArrayBuffer>> {
    const response = await this.send("GET", path, { signal });
    if (!response.body || !onBytes) return new Uint8Array(await response.arrayBuffer());
    const total = Number(response.headers.get("Content-Length")) || null;
    const parts: Uint8Array[] = [];
    let loaded = 0;
    const reader = response.body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      parts.push(value);
      loaded += value.length;
      onBytes(loaded, total);
    }
    const whole = new Uint8Array(loaded);
    let offset = 0;
    for (const part of parts) {
      whole.set(part, offset);
      offset += part.length;
    }
    return whole;
  }

  /** What proves who asks: for requests that others make in our name (tus). */
  headers(): Record<string, string> {
    const headers: Record<string, string> = {};
    const token = this.options.csrfToken?.();
    if (token) headers["X-CSRFToken"] = token;
    if (this.options.apiToken) headers["Authorization"] = `Bearer ${this.options.apiToken}`;
    return headers;
  }

  private async send(method: string, path: string, init: RequestInit): Promise<Response> {
    const call = this.options.fetch ?? globalThis.fetch.bind(globalThis);
    const headers = { Accept: "application/json", ...this.headers(), ...(init.headers as Record<string, string>) };
    const credentials = this.options.credentials ?? "same-origin";
    let response: Response;
    try {
      response = await call(this.baseUrl + path, { ...init, method, headers, credentials });
    } catch (error) {
      if (init.signal?.aborted) throw error;
      throw new UnreachableError(error);
    }
    if (!response.ok) throw await problemOf(response);
    return response;
  }
}

async function problemOf(response: Response): Promise<ProblemError> {
  let body: Record<string, unknown> = {};
  try {
    body = (await response.json()) as Record<string, unknown>;
  } catch {
    // Not JSON: a proxy's page. The status alone is told.
  }
  const { code, title, detail, ...extra } = body;
  const text = (value: unknown): string => (typeof value === "string" ? value : "");
  return new ProblemError(response.status, text(code), text(title) || `HTTP ${response.status}`, text(detail), extra);
}
