// The API, by the types that are generated from openapi/openapi.json.

import createClient from "openapi-fetch";
import type { components, paths } from "./schema";

type Schemas = components["schemas"];

export type Language = Schemas["Language"];
export type Submission = Schemas["Submission"];
export type SubmissionRequest = Schemas["SubmissionRequest"];
export type SubmissionSummary = Schemas["SubmissionSummary"];
export type SubmissionEvent = Schemas["SubmissionEvent"];
export type CompileReport = Schemas["CompileReport"];
export type Limits = Schemas["Limits"];
export type Test = Schemas["Test"];
export type Run = Schemas["Run"];
export type RunSummary = Schemas["RunSummary"];
export type CollectedFile = Schemas["CollectedFile"];
export type Output = Schemas["Output"];
export type State = Schemas["State"];
export type Verdict = Schemas["Verdict"];
export type RunVerdict = Schemas["RunVerdict"];
export type Worker = Schemas["Worker"];
export type Stats = Schemas["Stats"];
export type MinuteStats = Schemas["MinuteStats"];
export type Ready = Schemas["Ready"];
export type Problem = Schemas["Problem"];

export const api = createClient<paths>({ baseUrl: location.origin });

/** Why a request failed, as a sentence for people. */
export function explain(problem: Problem | undefined, response?: Response): string {
  if (!problem) {
    return response ? `The answer was ${response.status}.` : "The daemon cannot be reached.";
  }
  const fields = (problem.errors ?? []).map((error) => `${error.field} ${error.detail}`);
  return fields.length > 0 ? fields.join("; ") : problem.detail;
}

/** The bytes of a text that is written as `encoding` says. */
export function bytes(data: string, encoding: "utf8" | "base64"): Uint8Array {
  if (encoding === "utf8") return new TextEncoder().encode(data);
  return Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
}

/** Output as text; what is no UTF-8 in it becomes U+FFFD. */
export function text(output: Output): string {
  if (output.encoding === "utf8") return output.data;
  return new TextDecoder().decode(bytes(output.data, output.encoding));
}
