/**
 * The bridge into OHIF: `install` is what the snippet in app-config.js calls (docs/ohif.md).
 *
 * It adds a button, and leaves OHIF alone until that is clicked.
 */

import { ProblemError, UnreachableError, type Job } from "../client";
import { Access, SignInNeeded, type TokenSource } from "./access";
import { analyse, bringBack, bringRest, type Outcome, type Tools, type View } from "./analysis";
import { Archive, NotDelivered, NotPulled } from "./archive";
import { Host, type Ohif } from "./host";
import { Panel, type Action } from "./panel";
import { languageOfOhif, wordsIn, type Say } from "./words";

export interface BridgeOptions {
  /** Segwire's address; by default where this script came from. */
  server?: string;
  /** An API token, or a function that fetches one; by default the person's own session at Segwire. */
  token?: TokenSource;
  /** What Segwire calls the archive that this OHIF shows. */
  archive?: string;
}

/** The person has had enough. */
class Stopped extends Error {}

/** Called with what OHIF gives an extension in `preRegistration`. */
export function install(ohif: Ohif, options: BridgeOptions = {}): void {
  const language = languageOfOhif();
  const say = wordsIn(language);
  const host = new Host(ohif);
  const server = (options.server ?? new URL(import.meta.url).origin).replace(/\/$/, "");
  const bridge = new Bridge(host, new Access(server, options.token), options.archive ?? "default", {
    say,
    panel: new Panel(say, language),
  });
  if (!host.addButton(say("analyse"), say("tooltip"), () => bridge.click())) {
    console.warn("Segwire: this OHIF has no toolbar that takes a button.");
  }
}

class Bridge {
  private readonly say: Say;
  private readonly panel: Panel;
  private stopping: AbortController | null = null;
  private job: Job | null = null;

  constructor(
    private readonly host: Host,
    private readonly access: Access,
    private readonly archiveName: string,
    { say, panel }: { say: Say; panel: Panel },
  ) {
    this.say = say;
    this.panel = panel;
  }

  /** Start, or show again what is going on. */
  click(): void {
    this.panel.show();
    if (this.stopping) return;
    const uid = this.host.studyUid();
    if (!uid) this.panel.showEnd("failed", this.say("noStudy"));
    else void this.run(uid, (tools) => analyse(uid, tools, (job) => (this.job = job)));
  }

  private async run(uid: string, work: (tools: Tools) => Promise<Outcome>): Promise<void> {
    const stopping = new AbortController();
    this.stopping = stopping;
    const cancel: Action = { key: "cancel", name: "cancel", act: () => void this.cancel(cancel) };
    this.panel.setSubject("");
    this.panel.showStep(this.say("finding"));
    this.panel.setActions([cancel]);
    try {
      const client = await this.access.client((state, bye) => {
        // Signed out, or a right is gone: the socket does not come back by itself.
        if (state === "closed" && bye) stopping.abort(new SignInNeeded(false));
      });
      const archive = new Archive(client, this.archiveName);
      const tools = { client, archive, viewer: this.host, view: this.view(cancel), signal: stopping.signal };
      const outcome = await work(tools);
      if (outcome === "shown" && this.job) void bringRest(uid, this.job.id, tools).catch(() => undefined);
      this.end(outcome);
    } catch (error) {
      const reason: unknown = stopping.signal.aborted ? stopping.signal.reason : error;
      this.fail(uid, reason instanceof Stopped ? null : reason);
    } finally {
      this.stopping = null;
    }
  }

  private view(cancel: Action): View {
    const { panel, say } = this;
    return {
      onStep: (step) => {
        panel.showStep(say(step));
        if (step === "delivering") panel.setActions([{ key: "close", name: "leave", act: () => this.leave() }]);
        if (step === "showing") panel.setActions([]);
      },
      onStudy: (study) => panel.setSubject([study.description, study.study_date].filter(Boolean).join(" · ")),
      onPull: ({ done, total }) =>
        total ? panel.showStep(say("pulled", { done, total }), done / total) : panel.showStep(say("pulling")),
      onJob: (job) => {
        this.job = job;
        panel.showJob(job);
      },
      onArchiveAway: (reason) => panel.showStep(say("archiveAway", { reason })),
      choose: async (study, proposed, warnings) => {
        const choice = await panel.choose(study, proposed, warnings);
        panel.setActions([cancel]);
        return choice;
      },
    };
  }

  /** A job is ended at the server, and its end is told as any other; before there is one, everything is let be. */
  private async cancel(action: Action): Promise<void> {
    this.panel.setActions([]);
    if (!this.job) {
      this.stopping?.abort(new Stopped());
      return;
    }
    try {
      await (await this.access.client()).cancel(this.job.id);
    } catch {
      if (this.job) this.panel.setActions([action]); // it goes on, or ends by itself
    }
  }

  /** The result is there, and on its way to the archive by itself. */
  private leave(): void {
    this.stopping?.abort(new Stopped());
    this.panel.hide();
  }

  private end(outcome: Outcome): void {
    const { panel, say } = this;
    this.job = null;
    const lacks = this.host.missing();
    if (outcome === "shown") panel.showEnd("shown", say("shown"));
    else if (outcome === "cancelled") panel.showEnd("cancelled", "");
    else
      panel.showEnd(
        "stored",
        [say("stored"), lacks.length ? say("tooOld", { parts: lacks.join(", ") }) : ""].join(" "),
      );
    const again: Action = { key: "openAgain", name: "reload", act: () => location.reload(), isMain: true };
    panel.setActions(outcome === "stored" ? [again] : []);
  }

  private fail(uid: string, error: unknown): void {
    const { panel } = this;
    const job = this.job;
    this.job = null;
    if (error === null) {
      if (!job) panel.showEnd("cancelled", "");
      panel.setActions([]);
    } else if (error instanceof SignInNeeded) {
      panel.askSignIn(this.access.server, error.isTokenRefused, (token) => {
        this.access.remember(token);
        this.click();
      });
      panel.setActions([{ key: "tryAgain", name: "again", act: () => this.click(), isMain: true }]);
    } else {
      panel.showEnd("failed", this.sentenceOf(error));
      panel.setActions([error instanceof NotDelivered && job ? this.sendAgain(uid, job) : this.again()]);
    }
  }

  private again(): Action {
    return { key: "tryAgain", name: "again", act: () => this.click() };
  }

  private sendAgain(uid: string, job: Job): Action {
    const act = (): void => {
      this.job = job;
      void this.run(uid, async (tools) => {
        await tools.archive.send(job.id);
        return bringBack(uid, job.id, tools);
      });
    };
    return { key: "sendAgain", name: "send-again", act, isMain: true };
  }

  private sentenceOf(error: unknown): string {
    if (error instanceof NotPulled) return this.say("notPulled", { reason: error.message });
    if (error instanceof NotDelivered) return this.say("notDelivered", { reason: error.message });
    if (error instanceof UnreachableError) return this.say("unreachable");
    if (error instanceof ProblemError) return error.detail || error.title;
    return error instanceof Error ? error.message : String(error);
  }
}
