/** Changing the window by dragging: across for its width, down for its level, as on a workstation. */

import type { Window } from "../imaging/volume";

/** How far the window goes when the pointer crosses the picture: this many times its width. */
const SPEED = 2;
const NARROWEST = 0.02;

export interface Windowed {
  /** Whether a plain drag changes the window; the right button and the shift key always do. */
  isTool(): boolean;
  window(): Window | null;
  onWindow(window: Window): void;
}

/** Takes such drags before whatever paints the picture sees them. */
export function listenForWindowing(stage: HTMLElement, windowed: Windowed): void {
  const take = (event: PointerEvent): void => {
    event.preventDefault(); // and so no mouse events follow
    event.stopImmediatePropagation();
  };
  const isOurs = (event: PointerEvent): boolean => windowed.isTool() || event.shiftKey || (event.buttons & 2) !== 0;
  let isDragging = false;
  const start = (event: PointerEvent): void => {
    if (!windowed.window() || !isOurs(event)) return;
    isDragging = true;
    stage.setPointerCapture(event.pointerId);
    take(event);
  };
  const move = (event: PointerEvent): void => {
    const window = windowed.window();
    if (!isDragging || !window) return;
    take(event);
    const across = event.movementX / stage.clientWidth;
    windowed.onWindow(turned(window, across, event.movementY / stage.clientHeight));
  };
  const end = (event: PointerEvent): void => {
    if (isDragging) take(event);
    isDragging = false;
  };
  stage.addEventListener("pointerdown", start, { capture: true });
  stage.addEventListener("pointermove", move, { capture: true });
  stage.addEventListener("pointerup", end, { capture: true });
  stage.addEventListener("pointercancel", end, { capture: true });
  stage.addEventListener("contextmenu", (event) => event.preventDefault());
}

/** The window after a drag by these fractions of the picture. */
export function turned({ low, high }: Window, across: number, down: number): Window {
  const width = high - low;
  const wider = Math.max(width * NARROWEST, width * (1 + SPEED * across));
  const level = (low + high) / 2 + (SPEED * width * down) / 2;
  return { low: level - wider / 2, high: level + wider / 2 };
}
