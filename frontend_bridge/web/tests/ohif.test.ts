import { beforeEach, expect, test, vi } from "vitest";

import { SegmentationClient, type Job, type Study } from "../src/client";
import { Access, SignInNeeded } from "../src/ohif/access";
import { analyse, bringRest, JobFailed, type Choice, type Tools, type View, type Viewer } from "../src/ohif/analysis";
import { Archive, NotDelivered, NotPulled } from "../src/ohif/archive";
import { Host, type DisplaySet, type Ohif } from "../src/ohif/host";
import { OWN } from "../src/ohif/words";
import { asWebSocket, FakeSocket, finished, job } from "./fakes";

const UID = "1.2.3";
const SEG: DisplaySet = { displaySetInstanceUID: "D9", StudyInstanceUID: UID, SOPInstanceUID: "1.9", Modality: "SEG" };

function study(sequences: (string | null)[], proposal?: Partial<Study["proposal"]>): Study {
  const series = sequences.map((sequence, at) => ({
    id: `S${at + 1}`,
    uid: `1.2.3.${at + 1}`,
    description: `series ${at + 1}`,
    sequence,
    sequence_confidence: 1,
    shape: [2, 2, 2],
    spacing_mm: [1, 1, 1],
  }));
  const of = (name: string): string | null => series.find((one) => one.sequence === name)?.id ?? null;
  const found = { T1: of("T1"), T1CE: of("T1CE"), T2: of("T2"), FLAIR: of("FLAIR") };
  return { id: "P1", series, proposal: { series: found, missing: [], others: [], warnings: [], ...proposal } } as Study;
}

/** A server that answers each path with the next of its answers, the last of them for ever. */
class Server {
  asked: string[] = [];
  bodies: unknown[] = [];
  headers: Record<string, string>[] = [];
  private readonly answers = new Map<string, unknown[]>();

  on(call: string, ...answers: unknown[]): this {
    this.answers.set(call, answers);
    return this;
  }

  readonly fetch = ((input: RequestInfo | URL, init?: RequestInit) => {
    const call = `${init?.method ?? "GET"} ${String(input)}`;
    this.asked.push(call);
    this.headers.push(init?.headers as Record<string, string>);
    if (typeof init?.body === "string") this.bodies.push(JSON.parse(init.body));
    const left = this.answers.get(call);
    if (!left) return Promise.resolve(Response.json({ code: "not_found", detail: "Nothing." }, { status: 404 }));
    const answer = left.length > 1 ? left.shift() : left[0];
    return Promise.resolve(answer instanceof Response ? answer.clone() : Response.json(answer));
  }) as typeof fetch;
}

const ALL = ["T1", "T1CE", "T2", "FLAIR"];
const SEGMENT = (series: string): string => `POST /api/mri/segmentation/series/${series}/segment/`;
const KNOWN = `GET /api/mri/studies/?uid=${UID}`;
const PULL = `POST /api/pacs/default/studies/${UID}/pull/`;
const DELIVERIES = "GET /api/pacs/deliveries/?job=J1";
const pull = (changes: object): object => ({
  id: "L1",
  state: "running",
  done: 1,
  total: 4,
  study: null,
  error: null,
  ...changes,
});
const delivery = (state: string, changes: object = {}): object => ({
  deliveries: [{ id: "V1", server: "default", kind: "seg", state, attempts: 1, error: null, ...changes }],
});

/** A viewer that finds the segmentation in the archive; `lacks` is what this OHIF cannot do. */
function viewer(lacks: string[] = [], open = UID): Viewer & { shown: DisplaySet[] } {
  const sets: DisplaySet[] = [];
  const shown: DisplaySet[] = [];
  return {
    shown,
    missing: () => lacks,
    hasOpen: (uid) => uid === open,
    segmentationsOf: () => sets,
    refresh: (_, isThere) => {
      sets.push(SEG);
      return Promise.resolve(isThere());
    },
    lookAgain: () => {
      sets.push({ ...SEG, SOPInstanceUID: "1.10", Modality: "SR" });
      return Promise.resolve();
    },
    show: (one) => {
      shown.push(one);
      return Promise.resolve();
    },
  };
}

function tools(server: Server, { choice = null as Choice | null, screen = viewer() } = {}) {
  const steps: string[] = [];
  const client = new SegmentationClient({ fetch: server.fetch, socketUrl: "ws://here", WebSocket: asWebSocket });
  const view: View = {
    onStep: (step) => steps.push(step),
    onStudy: () => undefined,
    onPull: ({ done }) => steps.push(`pull ${done}`),
    onJob: ({ state }) => steps.push(state),
    onArchiveAway: (reason) => steps.push(reason),
    choose: (_, __, warnings) => {
      steps.push(`asked: ${warnings.join()}`);
      return Promise.resolve(choice);
    },
  };
  const stopping = new AbortController();
  const archive = new Archive(client, "default", () => Promise.resolve());
  const all: Tools = { client, archive, viewer: screen, view, signal: stopping.signal };
  return { all, steps, screen, stopping };
}

/** The socket of this client comes up and tells how the job ended. */
async function jobEnds(changes: Partial<Job>): Promise<void> {
  await vi.waitFor(() => expect(FakeSocket.all).toHaveLength(1));
  FakeSocket.latest.opens();
  const [sub] = FakeSocket.latest.subs();
  const snapshot = { ...finished("x"), ...changes };
  FakeSocket.latest.says({
    t: "sub.ok",
    topic: sub["topic"],
    id: sub["id"],
    epoch: "e1",
    seq: 5,
    recovered: false,
    snapshot,
  });
}

beforeEach(() => {
  FakeSocket.all = [];
});

test("a known study is analysed, and shown once the archive has the result", async () => {
  const server = new Server()
    .on(KNOWN, { studies: [study(ALL)] })
    .on(SEGMENT("S2"), job())
    .on(
      DELIVERIES,
      delivery("waiting"),
      delivery("waiting", { error: { code: "away", message: "Away." } }),
      delivery("sent"),
    );
  const { all, steps, screen } = tools(server);

  const outcome = analyse(UID, all, () => undefined);
  await jobEnds({});

  expect(await outcome).toBe("shown");
  expect(screen.shown).toEqual([SEG]);
  expect(steps).toEqual(["finding", "succeeded", "delivering", "Away.", "showing"]);
  expect(server.bodies).toEqual([{ sequence_series_ids: ["S1", "S2", "S3", "S4"] }]);
  expect(server.asked).not.toContain(PULL);
});

test("an unknown study is brought in first, and what nobody sends is sent", async () => {
  const server = new Server()
    .on(KNOWN, { studies: [] })
    .on(PULL, pull({ state: "queued", done: 0, total: 0 }))
    .on("GET /api/pacs/pulls/L1/", pull({}), pull({ state: "done", study: "P1" }))
    .on("GET /api/mri/studies/P1/", study(ALL))
    .on(SEGMENT("S2"), job())
    .on("POST /api/pacs/default/jobs/J1/send/", delivery("waiting"))
    .on(
      DELIVERIES,
      { deliveries: [] },
      { deliveries: [] },
      { deliveries: [] },
      delivery("sent", { sop_instance_uid: "1.9" }),
    );
  const { all, steps } = tools(server);

  const outcome = analyse(UID, all, () => undefined);
  await jobEnds({});

  expect(await outcome).toBe("shown");
  expect(steps.slice(0, 3)).toEqual(["finding", "pull 0", "pull 1"]);
  expect(server.asked.filter((call) => call.endsWith("/send/"))).toHaveLength(1);
});

test("a missing sequence is looked for in the archive, then asked about, and what is said is kept", async () => {
  const incomplete = study(["T1", "T1CE", "T2", null]);
  const server = new Server()
    .on(KNOWN, { studies: [incomplete] })
    .on("PATCH /api/mri/series/S4/", {})
    .on(SEGMENT("S2"), job())
    .on(DELIVERIES, delivery("sent"));
  const choice = { T1: "S1", T1CE: "S2", T2: "S3", FLAIR: "S4" };
  const { all, steps } = tools(server, { choice });

  const outcome = analyse(UID, all, () => undefined);
  await jobEnds({});

  expect(await outcome).toBe("shown");
  expect(server.asked.slice(0, 4)).toEqual([KNOWN, PULL, "PATCH /api/mri/series/S4/", SEGMENT("S2")]);
  expect(server.bodies[0]).toEqual({ sequence: "FLAIR" });
  expect(steps[1]).toBe("asked: ");
});

test("a doubt is told, and leaving it there starts nothing", async () => {
  const server = new Server().on(KNOWN, { studies: [study(ALL, { warnings: ["The T2 looks like FLAIR."] })] });
  const { all, steps } = tools(server);

  const outcome = await analyse(UID, all, () => undefined);

  expect(outcome).toBe("cancelled");
  expect(steps).toEqual(["finding", "asked: The T2 looks like FLAIR."]);
  expect(server.asked).toEqual([KNOWN]);
});

test.each([
  ["failed", { state: "failed", error: { code: "x", message: "The worker had no memory left." } }, "no memory"],
  ["cancelled", { state: "cancelled", result: null }, null],
] as const)("a job that %s is told as it is", async (_, end, message) => {
  const server = new Server().on(KNOWN, { studies: [study(ALL)] }).on(SEGMENT("S2"), job());
  const { all, screen } = tools(server);

  const outcome = analyse(UID, all, () => undefined).catch((error: unknown) => error);
  await jobEnds({ ...end, result: null } as Partial<Job>);

  if (message === null) expect(await outcome).toBe("cancelled");
  else {
    expect(await outcome).toBeInstanceOf(JobFailed);
    expect(((await outcome) as JobFailed).message).toContain(message);
  }
  expect(screen.shown).toEqual([]);
});

test("an archive that gives nothing and one that takes nothing are told apart, with their reasons", async () => {
  const silent = new Server().on(KNOWN, { studies: [] }).on(PULL, pull({ state: "failed", error: "It is gone." }));
  const full = new Server()
    .on(KNOWN, { studies: [study(ALL)] })
    .on(SEGMENT("S2"), job())
    .on(DELIVERIES, delivery("failed", { error: { code: "full", message: "It is full." } }));

  const notPulled = await analyse(UID, tools(silent).all, () => undefined).catch((error: unknown) => error);
  const notDelivered = analyse(UID, tools(full).all, () => undefined).catch((error: unknown) => error);
  await jobEnds({});

  expect(notPulled).toEqual(new NotPulled("It is gone."));
  expect(await notDelivered).toEqual(new NotDelivered("It is full."));
});

test.each([
  ["an OHIF that cannot show it by itself", viewer(["viewportGridService.getState"])],
  ["an OHIF with another patient's study open by then", viewer([], "another")],
])("%s is not shown it: it is stored", async (_, screen) => {
  const server = new Server()
    .on(KNOWN, { studies: [study(ALL)] })
    .on(SEGMENT("S2"), job())
    .on(DELIVERIES, delivery("sent"));
  const { all } = tools(server, { screen });

  const outcome = analyse(UID, all, () => undefined);
  await jobEnds({});

  expect(await outcome).toBe("stored");
  expect(screen.segmentationsOf(UID)).toEqual([]);
  expect(screen.shown).toEqual([]);
});

test("what reaches the archive later is looked for when nothing is on its way any more", async () => {
  const both = (state: string): object => {
    const { deliveries } = delivery("sent") as { deliveries: object[] };
    return { deliveries: [...deliveries, { ...deliveries[0], kind: "sr", state }] };
  };
  const server = new Server().on(DELIVERIES, both("waiting"), both("waiting"), both("sent"));
  const { all, screen } = tools(server);

  await bringRest(UID, "J1", all);

  expect(server.asked).toHaveLength(3);
  expect(screen.segmentationsOf(UID)).toHaveLength(1);
});

test("the person's session comes along with its CSRF token", async () => {
  const server = new Server().on("GET https://s/api/session/", { csrf_token: "C" }).on("POST https://s/api/x/", {});

  const client = await new Access("https://s", undefined, { fetch: server.fetch }).client();
  await client.http.post("/api/x/");

  expect(server.headers[1]["X-CSRFToken"]).toBe("C");
  expect(server.headers[1]["Authorization"]).toBeUndefined();
});

test("without a session a token is asked for; a wrong one is asked for again", async () => {
  const refused = Response.json({ code: "not_signed_in" }, { status: 401 });
  const server = new Server().on("GET https://s/api/session/", refused, refused, { csrf_token: "" });
  const access = new Access("https://s", undefined, { fetch: server.fetch });
  const trouble = async (): Promise<unknown> =>
    access.client().then(
      () => null,
      (error: unknown) => error,
    );

  const first = await trouble();
  access.remember(" wrong ");
  const second = await trouble();
  access.remember("right");
  const third = await trouble();

  expect([first, second, third]).toEqual([new SignInNeeded(false), new SignInNeeded(true), null]);
  expect((second as SignInNeeded).isTokenRefused).toBe(true);
  expect(server.headers.map((sent) => sent["Authorization"])).toEqual([undefined, "Bearer wrong", "Bearer right"]);
});

/** A toolbar that tells of every change, as OHIF's does; `names` are what this version calls its methods. */
function toolbar(names: { register: string; section: string }) {
  const state = { buttonSections: {} as Record<string, string[]> };
  const buttons: { id: string; uiType: string }[] = [];
  const heard = new Set<() => void>();
  const tell = (): void => heard.forEach((listener) => listener());
  return {
    EVENTS: { TOOL_BAR_MODIFIED: "modified" },
    state,
    buttons,
    subscribe: (_: string, listener: () => void) => heard.add(listener),
    [names.register]: (added: { id: string; uiType: string }[]) => {
      buttons.push(...added);
      tell();
    },
    [names.section]: (section: string, ids: string[]) => {
      (state.buttonSections[section] ??= []).push(...ids);
      tell();
    },
    enterMode: () => {
      buttons.length = 0;
      state.buttonSections = { primary: ["Zoom"] };
      tell();
    },
  };
}

test.each([
  ["3.11 and later", { register: "register", section: "updateSection" }],
  ["3.9 and 3.10", { register: "addButtons", section: "createButtonSection" }],
])("the button stands once in the toolbar of every mode (%s)", (_, names) => {
  vi.stubGlobal("document", { adoptedStyleSheets: [] });
  vi.stubGlobal(
    "CSSStyleSheet",
    class {
      replaceSync(): void {}
    },
  );
  const bar = toolbar(names);
  const commands = { createContext: vi.fn(), registerCommand: vi.fn() };
  const ohif = {
    servicesManager: { services: { toolbarService: bar } },
    commandsManager: commands,
    extensionManager: {},
  };

  const isThere = new Host(ohif as unknown as Ohif).addButton("AI analysis", "", () => undefined);
  bar.enterMode();
  bar.enterMode();

  expect(isThere).toBe(true);
  expect(bar.state.buttonSections["primary"]).toEqual(["Zoom", "SegwireAnalysis"]);
  expect(bar.buttons.map((button) => button.id)).toEqual(["SegwireAnalysis"]);
  vi.unstubAllGlobals();
});

test("an OHIF without what is needed is known by what it lacks, and is not broken", () => {
  const bare = new Host({ servicesManager: { services: {} }, commandsManager: {}, extensionManager: {} });

  expect(bare.addButton("AI analysis", "", () => undefined)).toBe(false);
  expect(bare.missing()).toHaveLength(3);
});

test("only the series that are new are read again, and what OHIF remembers of the study is whole", async () => {
  const forgotten: string[] = [];
  const asked: unknown[] = [];
  const sets: DisplaySet[] = [{ displaySetInstanceUID: "D1", StudyInstanceUID: UID, SeriesInstanceUID: "old" }];
  const source = {
    deleteStudyMetadataPromise: (id: string) => forgotten.push(id),
    query: { series: { search: () => Promise.resolve([{ seriesInstanceUid: "old" }, { seriesInstanceUid: "new" }]) } },
    retrieve: {
      series: {
        metadata: (query: unknown) => {
          asked.push(query, forgotten.length);
          sets.push(SEG);
          return Promise.resolve();
        },
      },
    },
  };
  const host = new Host({
    servicesManager: { services: { displaySetService: { getActiveDisplaySets: () => sets } } },
    commandsManager: {},
    extensionManager: {
      getActiveDataSource: () => [source],
      getDataSourceDefinition: () => ({ configuration: { name: "archive" } }),
    },
  } as unknown as Ohif);

  const found = await host.refresh(UID, () => host.segmentationsOf(UID)[0] ?? null);

  expect(found).toBe(SEG);
  expect(asked).toEqual([{ StudyInstanceUID: UID, filters: { seriesInstanceUID: ["new"] } }, 2]);
  expect(forgotten).toEqual([`archive:${UID}`, UID, `archive:${UID}`, UID]);
});

test("both languages fill in the same values", () => {
  const values = (line: string): string[] => [...line.matchAll(/\{(\w+)\}/g)].map((match) => match[1]).sort();

  for (const [key, line] of Object.entries(OWN.en))
    expect(values(OWN.ko[key as keyof typeof OWN.ko]), key).toEqual(values(line));
});
