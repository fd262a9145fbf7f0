/** The viewer page: studies on the left, four pictures in the middle, the analysis on the right. */

import "./viewer.css";

import { SegmentationClient, type ByeFrame, type LineState, type Study, type UploadAnswer } from "../client";
import { Adder } from "./adder";
import { ArchiveSearch } from "./archives";
import { h, one, replace, show, text } from "./dom";
import { chooseEngine, engineMaker } from "./engines/choose";
import { PaneGrid } from "./grid";
import { Reading } from "./reading";
import { sentenceOf } from "./sentences";
import { descriptionOf, nameOf, StudyList } from "./studies";
import { currentLanguage, onLanguage, say, sayIn, speak, t, type Language } from "./words";

const YEAR_SECONDS = 31_536_000;

async function main(): Promise<void> {
  const page = document.body.dataset;
  speak(document.documentElement.lang.startsWith("ko") ? "ko" : "en");
  const banner = one("banner");
  const client = new SegmentationClient({
    csrfToken: () => document.querySelector<HTMLMetaElement>("meta[name=csrf-token]")?.content ?? null,
    onConnection: (state, bye, isSlow) => showConnection(banner, state, bye, isSlow),
  });
  const engineName = chooseEngine(location.search);
  document.body.dataset["engine"] = engineName;
  const grid = new PaneGrid(client, await engineMaker(engineName));
  const reading = new Reading(client, grid, { isStaff: page["staff"] === "true" });

  let shown: Study | null = null;
  const describe = (): void => {
    const parts = shown && [nameOf(shown), shown.patient_id, shown.study_date, descriptionOf(shown)];
    text(one("study-title"), parts?.filter(Boolean).join(" · ") ?? "");
  };
  onLanguage(describe);
  const open = (study: Study): void => {
    document.body.classList.remove("browsing");
    if (shown?.id === study.id) return;
    shown = study;
    describe();
    list.setChosen(study.id);
    history.replaceState(null, "", address(study.id));
    show(welcome, false);
    void reading.open(study);
  };
  const list = new StudyList(open);
  const fetched = (studyId: string): void => {
    void refresh(client, list);
    // The study that is open hears of its new series by itself.
    void client.study(studyId).then(open);
  };
  const archives = new ArchiveSearch(client.archives, fetched);
  const added = ({ studies: [first] }: UploadAnswer): void => (first ? fetched(first.id) : void refresh(client, list));
  const adder = new Adder(client, added, archives.button);
  const welcome = say(h("p", { class: "welcome" }), "chooseStudy");
  const side = h("nav", { class: "side" }, list.element, adder.element);
  adder.listen(side);
  grid.element.append(welcome);
  replace(one("app"), side, grid.element, reading.panel, archives.dialog);
  wireHeader();

  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") void refresh(client, list);
  });
  // Where there is no archive, or this person may not ask, nothing of them is shown.
  client.archives.all().then(
    (servers) => {
      archives.setServers(servers);
      reading.setServers(servers);
    },
    () => {},
  );
  const studies = await refresh(client, list);
  const asked = new URLSearchParams(location.search).get("study");
  const chosen = studies.find((study) => study.id === asked);
  if (chosen) open(chosen);
  else document.body.classList.add("browsing");
}

async function refresh(client: SegmentationClient, list: StudyList): Promise<Study[]> {
  try {
    const studies = await client.studies();
    list.setStudies(studies);
    return studies;
  } catch (error) {
    say(one("banner"), "unreachable");
    text(one("banner"), sentenceOf(error));
    show(one("banner"), true);
    return [];
  }
}

function address(studyId: string): string {
  const query = new URLSearchParams(location.search);
  query.set("study", studyId);
  return `?${query.toString()}`;
}

const SIGNED_OUT = 4501;

function showConnection(banner: HTMLElement, state: LineState, bye: ByeFrame | null, isSlow: boolean): void {
  document.body.dataset["connection"] = isSlow ? "slow" : state;
  show(one("connection"), isSlow);
  if (state === "closed" && bye && !bye.reconnect) {
    const why = bye.code === SIGNED_OUT || !bye.reason ? say(h("span"), "signedOut") : h("span", {}, bye.reason);
    const again = bye.code === SIGNED_OUT ? "signIn" : "reload";
    replace(banner, why, " ", say(h("a", { href: location.href }), again));
    show(banner, true);
  } else if (state === "open" || isSlow) {
    show(banner, false);
  } else if (state === "waiting") {
    replace(banner, say(h("span"), "offline"));
    show(banner, true);
  }
}

function wireHeader(): void {
  const languages = one("language");
  const other = (): Language => (currentLanguage() === "en" ? "ko" : "en");
  const name = (): void => {
    text(languages, other() === "ko" ? "한국어" : "English");
    languages.lang = other();
  };
  name();
  languages.addEventListener("click", () => {
    const next = other();
    // The cookie Django's LocaleMiddleware reads: the sign-in page speaks it too.
    document.cookie = `django_language=${next}; path=/; max-age=${YEAR_SECONDS}; samesite=lax`;
    speak(next);
    name();
  });
  say(one("sign-out"), "signOut");
  say(one("disclaimer"), "disclaimer");
  sayIn(say(one("connection"), "slowMode"), "title", "slowModeWhy");
  say(one("menu"), "menu").addEventListener("click", () => document.body.classList.toggle("browsing"));
  const admin = document.getElementById("admin-link");
  if (admin) say(admin, "admin");
}

void main().catch((error: unknown) => {
  const banner = one("banner");
  text(banner, error instanceof Error ? error.message : t("unreachable"));
  show(banner, true);
});
