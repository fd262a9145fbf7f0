/** Which engine paints, by what the browser can do. */

import { CanvasEngine } from "./canvas";
import type { MakeEngine } from "./engine";

export type EngineName = "canvas" | "niivue";

/** What the address asks for, else NiiVue where WebGL2 runs on a real graphics chip. */
export function chooseEngine(search: string): EngineName {
  const asked = new URLSearchParams(search).get("engine");
  if (asked === "canvas" || asked === "niivue") return asked;
  return hasHardwareWebgl2() ? "niivue" : "canvas";
}

export async function engineMaker(name: EngineName): Promise<MakeEngine> {
  if (name === "canvas") return (host, gestures) => new CanvasEngine(host, gestures);
  const { NiivueEngine } = await import("./niivue");
  return (host, gestures) => new NiivueEngine(host, gestures);
}

function hasHardwareWebgl2(): boolean {
  const context = document.createElement("canvas").getContext("webgl2");
  if (!context) return false;
  const names = context.getExtension("WEBGL_debug_renderer_info");
  const renderer = String(context.getParameter(names ? names.UNMASKED_RENDERER_WEBGL : context.RENDERER));
  context.getExtension("WEBGL_lose_context")?.loseContext();
  return !/swiftshader|llvmpipe|software|basic render/i.test(renderer);
}
