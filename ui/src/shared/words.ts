// The API's words and numbers, for people.

import type { RunVerdict, State, Verdict } from "../api/client";

const VERDICTS: Record<Verdict | RunVerdict, string> = {
  accepted: "Accepted",
  wrong_answer: "Wrong answer",
  time_limit_exceeded: "Time limit exceeded",
  memory_limit_exceeded: "Memory limit exceeded",
  output_limit_exceeded: "Output limit exceeded",
  runtime_error: "Runtime error",
  compile_error: "Compile error",
  cancelled: "Cancelled",
  internal_error: "Internal error",
  skipped: "Skipped",
};

const STATES: Record<State, string> = {
  queued: "Queued",
  dispatching: "Starting",
  running: "Running",
  finished: "Finished",
};

export const verdictName = (verdict: Verdict | RunVerdict): string => VERDICTS[verdict];
export const stateName = (state: State): string => STATES[state];

/** How a verdict is coloured. */
export function tone(verdict: Verdict | RunVerdict): "good" | "bad" | "plain" {
  if (verdict === "accepted") return "good";
  return verdict === "cancelled" || verdict === "skipped" ? "plain" : "bad";
}

export function milliseconds(value: number): string {
  if (value < 1000) return `${Math.round(value)} ms`;
  if (value < 60_000) return `${(value / 1000).toFixed(2)} s`;
  return `${Math.floor(value / 60_000)} min ${Math.round((value % 60_000) / 1000)} s`;
}

export function size(value: number): string {
  if (value < 1024) return `${value} B`;
  if (value < 1024 ** 2) return `${(value / 1024).toFixed(1)} KiB`;
  return `${(value / 1024 ** 2).toFixed(1)} MiB`;
}

/** A sentence as a sentence: the API begins them small. */
export const sentence = (words: string): string => words.charAt(0).toUpperCase() + words.slice(1);
