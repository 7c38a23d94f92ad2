// What somebody is writing: kept in the browser, by language, until it is sent.

import { bytes, type Limits, type SubmissionRequest, type Test } from "../api/client";
import { examples } from "./examples";

export interface Draft {
  source: string;
  stdin: string;
  /** Whether one types while it runs, in a terminal. */
  terminal: boolean;
  /** What is typed first, of a program with a terminal: `stdin` is none of its. */
  first: string;
  /** As one types them: words, and quotes around words with spaces. */
  args: string;
  limits: Limits;
  tests: Test[];
  /** Paths of files to be taken back, typed like arguments; of a program without tests. */
  collect: string;
  /** What the page has no fields for, of a submission that was opened: sent again as it was. */
  rest?: Partial<SubmissionRequest>;
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

/** The time on the clock of a program with a terminal that names none, unless the daemon allows less. */
export const TERMINAL_WALL_TIME = 600_000;
/** The most that one without has. */
export const PLAIN_WALL_TIME = 120_000;

/** A request as a draft. Of several files the one that is started is shown, and all are sent. */
export function fromRequest(request: Omit<SubmissionRequest, "language">): Draft {
  const { source, stdin, tty, args: _, limits: __, tests: ___, collect: ____, ...rest } = request;
  const terminal = tty === true;
  // On pipes too it is talked to, which this page does in a terminal alone.
  delete rest.interactive;
  const main = request.files?.find((file) => file.path === request.entrypoint) ?? request.files?.[0];
  const content = main && decode(main);
  return {
    source: source ?? content ?? "",
    stdin: terminal ? "" : (stdin ?? ""),
    terminal,
    first: terminal ? (stdin ?? "") : "",
    args: (request.args ?? []).map(quote).join(" "),
    limits: request.limits ?? {},
    tests: request.tests ?? [],
    collect: (request.collect ?? []).map(quote).join(" "),
    ...(Object.keys(rest).length > 0 && { rest }),
  };
}

type SourceFile = NonNullable<SubmissionRequest["files"]>[number];

const decode = (file: SourceFile): string =>
  file.encoding === "base64" ? new TextDecoder().decode(bytes(file.content, "base64")) : file.content;

/** The files with what was written of the one that is started. */
function edited(files: SourceFile[], entrypoint: string | undefined, source: string): SourceFile[] {
  const main = files.find((file) => file.path === entrypoint) ?? files[0];
  return files.map((file) =>
    file === main && decode(file) !== source ? { path: file.path, content: source } : file,
  );
}

export function toRequest(language: string, draft: Draft): SubmissionRequest {
  const { files, ...rest } = draft.rest ?? {};
  const request: SubmissionRequest = files
    ? { ...rest, language, files: edited(files, rest.entrypoint, draft.source) }
    : { ...rest, language, source: draft.source };
  const args = words(draft.args);
  const hasTerminal = draft.terminal && draft.tests.length === 0;
  const stdin = hasTerminal ? draft.first : draft.stdin;
  if (hasTerminal) request.interactive = request.tty = true;
  if (stdin !== "") request.stdin = stdin;
  if (args.length > 0) request.args = args;
  if (Object.keys(draft.limits).length > 0) request.limits = draft.limits;
  const collect = words(draft.collect);
  if (draft.tests.length > 0) request.tests = draft.tests;
  else if (collect.length > 0) request.collect = collect;
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
