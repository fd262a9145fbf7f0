/** Failures as a sentence for the person. The server's own sentences are shown as they come. */

import { ProblemError, UnreachableError } from "../client";
import { t } from "./words";

export function sentenceOf(error: unknown): string {
  if (error instanceof ProblemError) return error.status === 401 ? t("signedOut") : error.detail || error.title;
  if (error instanceof UnreachableError) return t("unreachable");
  return error instanceof Error ? error.message : String(error);
}
