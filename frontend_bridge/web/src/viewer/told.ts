/** The server's sentences in the person's language. It speaks English; what is not known here stays as it came. */

import { currentLanguage } from "./words";

type Written = string | ((...found: string[]) => string);

/** By code: refusals, what was set aside, and why nothing could be started. */
const BY_CODE: Record<string, string> = {};

/** By the sentence itself, where the code says too little. */
const BY_PATTERN: readonly (readonly [RegExp, Written])[] = [];

/** `sentence` as the person reads it. */
export function told(sentence: string, code = ""): string {
  if (currentLanguage() === "en") return sentence;
  for (const [pattern, written] of BY_PATTERN) {
    const found = pattern.exec(sentence);
    if (found) return typeof written === "string" ? written : written(...found.slice(1));
  }
  return BY_CODE[code] ?? sentence;
}
