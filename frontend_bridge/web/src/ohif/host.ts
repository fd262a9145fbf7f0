/**
 * Everything that is known of OHIF, and nothing of Segwire.
 *
 * OHIF hands an extension its services and promises little about them from version to version, so each is looked for
 * before it is used. Written for 3.13, with the names that 3.9 to 3.12 used where they differ.
 */

const BUTTON = "SegwireAnalysis";
const CONTEXT = "SEGWIRE";
const COMMAND = "segwireAnalyse";
const TRIES = 5;
const AGAIN_MS = 1_000;

export interface DisplaySet {
  displaySetInstanceUID: string;
  StudyInstanceUID?: string;
  SeriesInstanceUID?: string;
  SOPInstanceUID?: string;
  Modality?: string;
  referencedDisplaySetInstanceUID?: string | null;
  load?: (options: { headers?: unknown }) => Promise<unknown>;
}

interface Viewport {
  viewportId?: string;
  displaySetInstanceUIDs?: string[];
}

interface Toolbar {
  EVENTS?: Record<string, string>;
  sections?: { primary?: string };
  state?: { buttonSections?: Record<string, string[]> };
  subscribe?(event: string, heard: () => void): unknown;
  register?(buttons: unknown[]): void;
  addButtons?(buttons: unknown[]): void;
  updateSection?(section: string, ids: string[]): void;
  createButtonSection?(section: string, ids: string[]): void;
}

interface DataSource {
  deleteStudyMetadataPromise?(id: string): void;
  getConfig?(): { name?: string } | undefined;
  retrieve?: { series?: { metadata?(query: Record<string, unknown>): Promise<unknown> } };
  query?: { series?: { search?(uid: string): Promise<{ seriesInstanceUid?: string; modality?: string }[]> } };
}

/** What an extension is given by OHIF, as far as it is used here. */
export interface Ohif {
  servicesManager: {
    services: {
      toolbarService?: Toolbar;
      displaySetService?: {
        getActiveDisplaySets?(): DisplaySet[];
        getDisplaySetByUID?(uid: string): DisplaySet | undefined;
      };
      viewportGridService?: {
        getState?(): { activeViewportId?: string; viewports?: Map<string, Viewport> };
        setDisplaySetsForViewport?(change: { viewportId: string; displaySetInstanceUIDs: string[] }): void;
      };
      segmentationService?: {
        jumpToSegmentCenter?(segmentation: string, segment: number, viewport?: string): void;
        getSegmentation?(id: string): { segments?: Record<string, unknown> } | undefined;
      };
      userAuthenticationService?: { getAuthorizationHeader?(): unknown };
    };
  };
  commandsManager: {
    createContext?(name: string): void;
    registerCommand?(context: string, name: string, definition: unknown): void;
    getCommand?(name: string): unknown;
    runCommand?(name: string, options: Record<string, unknown>): unknown;
  };
  extensionManager: {
    getActiveDataSource?(): DataSource[] | undefined;
    getDataSourceDefinition?(): { configuration?: { name?: string } } | undefined;
    modules?: Record<string, { module: { name: string }[] }[]>;
  };
}

export class Host {
  private readonly services: Ohif["servicesManager"]["services"];

  constructor(private readonly ohif: Ohif) {
    this.services = ohif.servicesManager.services;
  }

  /** A button in the main toolbar of every mode. False: this OHIF has no toolbar that takes one. */
  addButton(label: string, tooltip: string, onClick: () => void): boolean {
    const { commandsManager: commands } = this.ohif;
    const toolbar = this.services.toolbarService;
    const event = toolbar?.EVENTS?.["TOOL_BAR_MODIFIED"];
    if (!toolbar?.subscribe || !event || !commands.registerCommand) return false;
    commands.createContext?.(CONTEXT);
    commands.registerCommand(CONTEXT, COMMAND, { commandFn: onClick });
    const button = {
      id: BUTTON,
      uiType: this.hasUiType("ohif.toolButton") ? "ohif.toolButton" : "ohif.radioGroup",
      props: {
        type: "action",
        icon: "tool-magnetic-roi",
        label,
        tooltip,
        commands: [{ commandName: COMMAND, context: CONTEXT }],
      },
    };
    document.adoptedStyleSheets.push(letters());
    // Each mode sets the toolbar up anew when it is entered, after its extensions had their say.
    let isPutting = false; // each change of the toolbar is told again
    const put = (): void => {
      if (isPutting) return;
      isPutting = true;
      putButton(toolbar, button);
      isPutting = false;
    };
    toolbar.subscribe(event, put);
    put();
    return true;
  }

  /** What this OHIF lacks to show a result without a reload. */
  missing(): string[] {
    const { displaySetService, viewportGridService } = this.services;
    const has: [string, unknown][] = [
      ["displaySetService.getActiveDisplaySets", displaySetService?.getActiveDisplaySets],
      ["viewportGridService.getState", viewportGridService?.getState],
      ["dataSource.retrieve.series.metadata", this.dataSource()?.retrieve?.series?.metadata],
    ];
    return has.filter(([, part]) => typeof part !== "function").map(([name]) => name);
  }

  /** StudyInstanceUID of what the person looks at. */
  studyUid(): string | null {
    const shown = this.viewports().get(this.activeViewportId() ?? "")?.displaySetInstanceUIDs?.[0];
    const displaySet = this.displaySets().find((one) => one.displaySetInstanceUID === shown);
    if (displaySet?.StudyInstanceUID) return displaySet.StudyInstanceUID;
    const query = new URLSearchParams(location.search);
    const asked = query.get("StudyInstanceUIDs") ?? query.get("studyInstanceUIDs");
    return asked?.split(",")[0] || (this.displaySets()[0]?.StudyInstanceUID ?? null);
  }

  hasOpen(studyUid: string): boolean {
    return this.displaySets().some((one) => one.StudyInstanceUID === studyUid);
  }

  segmentationsOf(studyUid: string): DisplaySet[] {
    return this.displaySets().filter((one) => one.Modality === "SEG" && one.StudyInstanceUID === studyUid);
  }

  /** Ask the archive again what the study has, until `isThere`; the answer is what it says, or null. */
  async refresh<T>(studyUid: string, isThere: () => T | null): Promise<T | null> {
    for (let tries = 0; tries < TRIES && this.hasOpen(studyUid); tries++) {
      if (tries > 0) await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
      await this.lookAgain(studyUid);
      const found = isThere();
      if (found !== null) return found;
    }
    return null;
  }

  /** Put a segmentation over the series it was made from, at its middle. */
  async show(segmentation: DisplaySet): Promise<void> {
    const viewportId = this.viewportFor(segmentation);
    if (!viewportId) return;
    await segmentation.load?.({ headers: this.services.userAuthenticationService?.getAuthorizationHeader?.() });
    const { commandsManager: commands } = this.ohif;
    if (commands.runCommand && commands.getCommand?.("hydrateSecondaryDisplaySet")) {
      await commands.runCommand("hydrateSecondaryDisplaySet", { displaySet: segmentation, viewportId });
    } else {
      const displaySetInstanceUIDs = [segmentation.displaySetInstanceUID];
      this.services.viewportGridService?.setDisplaySetsForViewport?.({ viewportId, displaySetInstanceUIDs });
    }
    await this.jumpTo(segmentation, viewportId);
  }

  /** What the archive has by now of an open study; only new series where OHIF can ask, for a study has many images. */
  async lookAgain(uid: string): Promise<void> {
    const source = this.dataSource();
    const metadata = source?.retrieve?.series?.metadata;
    if (!source || !metadata) return;
    const known = new Set(this.displaySets().map((one) => one.SeriesInstanceUID));
    const listed = await source.query?.series?.search?.(uid).catch(() => undefined);
    const fresh = listed?.map((one) => one.seriesInstanceUid).filter((one) => one && !known.has(one));
    if (fresh?.length === 0) return;
    // A study is asked for once and remembered; what is remembered now would be these series alone, so again after.
    this.forget(source, uid);
    try {
      await metadata({ StudyInstanceUID: uid, ...(fresh ? { filters: { seriesInstanceUID: fresh } } : {}) });
    } finally {
      this.forget(source, uid);
    }
  }

  private forget(source: DataSource, uid: string): void {
    const definition = this.ohif.extensionManager.getDataSourceDefinition?.();
    const name = definition?.configuration?.name ?? source.getConfig?.()?.name;
    source.deleteStudyMetadataPromise?.(`${name}:${uid}`);
    source.deleteStudyMetadataPromise?.(uid); // the key until 3.8
  }

  /** Where the referenced series is shown, the active viewport first; else the active one. */
  private viewportFor(segmentation: DisplaySet): string | null {
    const active = this.activeViewportId();
    const reference = segmentation.referencedDisplaySetInstanceUID;
    const showing = [...this.viewports()]
      .filter(([, viewport]) => reference && viewport.displaySetInstanceUIDs?.includes(reference))
      .map(([id]) => id);
    if (active && showing.includes(active)) return active;
    return showing[0] ?? active;
  }

  /** The largest part is in the middle of the view; a nicety, so that nothing depends on it. */
  private async jumpTo({ displaySetInstanceUID: id }: DisplaySet, viewportId: string): Promise<void> {
    const service = this.services.segmentationService;
    for (let tries = 0; tries < TRIES; tries++) {
      const segments = Object.keys(service?.getSegmentation?.(id)?.segments ?? {}).map(Number);
      try {
        if (segments.length > 0) {
          service?.jumpToSegmentCenter?.(id, segments[segments.length - 1], viewportId);
          return;
        }
      } catch {
        // The viewport is not ready for it yet.
      }
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS / 2));
    }
  }

  private hasUiType(name: string): boolean {
    const modules = this.ohif.extensionManager.modules?.["toolbarModule"] ?? [];
    return modules.some(({ module }) => Array.isArray(module) && module.some((one) => one.name === name));
  }

  private dataSource(): DataSource | undefined {
    return this.ohif.extensionManager.getActiveDataSource?.()?.[0];
  }

  private displaySets(): DisplaySet[] {
    return this.services.displaySetService?.getActiveDisplaySets?.() ?? [];
  }

  private viewports(): Map<string, Viewport> {
    const viewports = this.services.viewportGridService?.getState?.().viewports;
    return viewports instanceof Map ? viewports : new Map<string, Viewport>();
  }

  private activeViewportId(): string | null {
    return this.services.viewportGridService?.getState?.().activeViewportId ?? null;
  }
}

/** OHIF draws its own icons only, none of which says what this button does; its place is taken by two letters. */
function letters(): CSSStyleSheet {
  const button = `button:is([name="${BUTTON}"], [data-cy="${BUTTON}"])`;
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(`
    ${button} svg { display: none; }
    ${button}::before {
      content: "AI"; padding: 1px 4px; border: 2px solid; border-radius: 5px; font: 700 14px/1.2 system-ui, sans-serif;
    }`);
  return sheet;
}

function putButton(toolbar: Toolbar, button: { id: string }): void {
  const section = toolbar.sections?.primary ?? "primary";
  const ids = toolbar.state?.buttonSections?.[section];
  if (!ids || ids.includes(button.id)) return;
  if (toolbar.updateSection) {
    toolbar.register?.([button]);
    toolbar.updateSection(section, [button.id]);
  } else {
    toolbar.addButtons?.([button]);
    toolbar.createButtonSection?.(section, [button.id]);
  }
}
