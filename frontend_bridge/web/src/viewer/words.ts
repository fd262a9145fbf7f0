/** Saying it in the person's language, now and after every change of language. `{name}` is filled in. */

import { en, type Key } from "./english";
import { ko } from "./korean";

export type { Key };
export type Language = "en" | "ko";
export const WORDS: Record<Language, Record<Key, string>> = { en, ko };

type Values = Record<string, string | number>;

let language: Language = "en";
const heard = new Set<() => void>();

export const currentLanguage = (): Language => language;

export function t(key: Key, values: Values = {}): string {
  return WORDS[language][key].replace(/\{(\w+)\}/g, (_, name: string) => String(values[name] ?? ""));
}

/** Say `key` in this element, now and after every change of language. */
export function say<E extends Element>(element: E, key: Key, values?: Values): E {
  spoken.set(element, { key, values });
  element.setAttribute("data-say", key);
  element.textContent = t(key, values);
  return element;
}

/** The same for an attribute that is read or shown: a placeholder, a title, a label. */
export function sayIn<E extends Element>(element: E, attribute: string, key: Key, values?: Values): E {
  spokenIn.set(element, [
    ...(spokenIn.get(element) ?? []).filter((one) => one.attribute !== attribute),
    { attribute, key, values },
  ]);
  element.setAttribute("data-say-in", "");
  element.setAttribute(attribute, t(key, values));
  return element;
}

/** No longer translated. */
export function unsay(element: Element): void {
  element.removeAttribute("data-say");
}

export function speak(next: Language): void {
  language = next;
  document.documentElement.lang = next;
  for (const element of document.querySelectorAll("[data-say]")) {
    const line = spoken.get(element);
    if (line) element.textContent = t(line.key, line.values);
  }
  for (const element of document.querySelectorAll("[data-say-in]")) {
    for (const { attribute, key, values } of spokenIn.get(element) ?? [])
      element.setAttribute(attribute, t(key, values));
  }
  heard.forEach((listener) => listener());
}

export function onLanguage(listener: () => void): void {
  heard.add(listener);
}

const spoken = new WeakMap<Element, { key: Key; values?: Values }>();
const spokenIn = new WeakMap<Element, { attribute: string; key: Key; values?: Values }[]>();

/** Seconds as a person says them: 45 s, 2:05. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return language === "ko" ? `${whole}초` : `${whole} s`;
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}
