// What somebody is writing: kept in the browser, by language, until it is sent.

import type { Limits, SubmissionRequest, Test } from "../api/client";
import { examples } from "./examples";

export interface Draft {
  source: string;
  stdin: string;
  /** As one types them: words, and quotes around words with spaces. */
  args: string;
  limits: Limits;
  tests: Test[];
}

const LANGUAGE = "braindrill.language";
const key = (language: string) => `braindrill.draft.${language}`;

export const keptLanguage = (): string | null => localStorage.getItem(LANGUAGE);
export const keepLanguage = (language: string) => localStorage.setItem(LANGUAGE, language);

export function fresh(language: string): Draft {
  return fromRequest(examples(language)[0]!.request);
}

/** The last draft in a language, or its first example. */
export function load(language: string): Draft {
  const kept = localStorage.getItem(key(language));
  if (kept === null) return fresh(language);
  try {
    return { ...fresh(language), ...(JSON.parse(kept) as Partial<Draft>) };
  } catch {
    return fresh(language);
  }
}

export function keep(language: string, draft: Draft) {
  try {
    localStorage.setItem(key(language), JSON.stringify(draft));
  } catch {
    // The browser has no room for it; it is still on the page.
  }
}

export function fromRequest(request: Omit<SubmissionRequest, "language">): Draft {
  return {
    source: request.source ?? request.files?.[0]?.content ?? "",
    stdin: request.stdin ?? "",
    args: (request.args ?? []).map(quote).join(" "),
    limits: request.limits ?? {},
    tests: request.tests ?? [],
  };
}

export function toRequest(language: string, draft: Draft): SubmissionRequest {
  const request: SubmissionRequest = { language, source: draft.source };
  const args = words(draft.args);
  if (draft.stdin !== "") request.stdin = draft.stdin;
  if (args.length > 0) request.args = args;
  if (Object.keys(draft.limits).length > 0) request.limits = draft.limits;
  if (draft.tests.length > 0) request.tests = draft.tests;
  return request;
}

const quote = (word: string): string =>
  /^[^\s"'\\]+$/.test(word) ? word : `"${word.replace(/["\\]/g, "\\$&")}"`;

/** The words of a line, as a shell would part them, without its variables and patterns. */
export function words(line: string): string[] {
  const all: string[] = [];
  const pattern = /"((?:[^"\\]|\\.)*)"|'([^']*)'|\\(.)|([^\s"'\\]+)|(\s+)/gs;
  let word: string | undefined;
  for (const match of line.matchAll(pattern)) {
    if (match[5] !== undefined) {
      if (word !== undefined) all.push(word);
      word = undefined;
      continue;
    }
    const part = match[1]?.replace(/\\(.)/gs, "$1") ?? match[2] ?? match[3] ?? match[4] ?? "";
    word = (word ?? "") + part;
  }
  if (word !== undefined) all.push(word);
  return all;
}
