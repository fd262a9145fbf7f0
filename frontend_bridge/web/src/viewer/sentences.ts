/** Failures as a sentence for the person. The server's own sentences come in English. */

import { ProblemError, UnreachableError } from "../client";
import { told } from "./told";
import { t } from "./words";

export function sentenceOf(error: unknown): string {
  if (error instanceof ProblemError)
    return error.status === 401 ? t("signedOut") : told(error.detail || error.title, error.code);
  if (error instanceof UnreachableError) return t("unreachable");
  return error instanceof Error ? error.message : String(error);
}
