// The story that every generated client is tested with: node story.js http://127.0.0.1:8080
//
// docs/clients.md shows parts of it.

import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

type Submission = components["schemas"]["Submission"];
type SubmissionEvent = components["schemas"]["SubmissionEvent"];

const address = process.argv[2];
const client = createClient<paths>({ baseUrl: address });

function check(holds: boolean, what: string): void {
  if (!holds) throw new Error(`not as expected: ${what}`);
}

// The answer, or the problem as an error.
function answer<T>(result: { data?: T; error?: components["schemas"]["Problem"] }): T {
  if (result.data === undefined) throw new Error(result.error?.detail);
  return result.data;
}

// List the languages.
const languages = answer(await client.GET("/v1/languages")).items;
const python = languages.find((language) => language.id === "python");
check(python?.available === true, `python is available: ${python?.reason}`);

// Submit, and wait for the end.
const submission = answer(
  await client.POST("/v1/submissions", {
    params: { query: { wait: 30 } },
    body: { language: "python", source: "print(6*7)" },
  }),
);
check(submission.state === "finished", "it is finished");
check(submission.outcome?.verdict === "accepted", "it is accepted");
check(submission.outcome?.runs[0]?.stdout.data === "42\n", "it wrote 42");

// Send a batch; one item is refused.
const programs = [
  { language: "python", source: "print(1)" },
  { language: "python", source: "exit(3)" },
  { language: "no-such-language", source: "" },
];
const batch = await client.POST("/v1/submissions/batch", { body: { items: programs } });
const taken: Submission[] = [];
for (const result of answer(batch).items) {
  if ("id" in result) taken.push(result);
  else check(result.status === 422, "a problem says 422");
}
const [first, second] = taken;
check(taken.length === 2, "two are taken");

// Ask until they are finished.
async function finished(id: string): Promise<Submission> {
  const deadline = Date.now() + 60_000;
  while (Date.now() < deadline) {
    const params = { path: { id } };
    const submission = answer(await client.GET("/v1/submissions/{id}", { params }));
    if (submission.state === "finished") return submission;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`${id} does not finish`);
}
check((await finished(first.id)).outcome?.verdict === "accepted", "the first is accepted");
check((await finished(second.id)).outcome?.verdict === "runtime_error", "the second is not");

// Read the list, two at a time.
const seen: string[] = [];
let cursor: string | undefined;
do {
  const params = { query: { limit: 2, cursor } };
  const page = answer(await client.GET("/v1/submissions", { params }));
  seen.push(...page.items.map((one) => one.id));
  cursor = page.next_cursor;
} while (cursor !== undefined);
check(seen.length === new Set(seen).size, "none is listed twice");
check([submission, first, second].every(({ id }) => seen.includes(id)), "all are listed");

// Cancel.
const sleeper = answer(
  await client.POST("/v1/submissions", {
    body: { language: "python", source: "import time; time.sleep(8)" },
  }),
);
const cancelled = answer(
  await client.POST("/v1/submissions/{id}/cancel", { params: { path: { id: sleeper.id } } }),
);
check(cancelled.outcome?.verdict === "cancelled", "it is cancelled");

// Problems.
const refused = await client.POST("/v1/submissions", {
  body: { language: "no-such-language", source: "" },
});
check(refused.response.status === 422, "an unknown language is refused");
check(refused.error?.type === "urn:braindrill:problem:invalid-request", "it is this kind of problem");
check(refused.error?.errors?.[0]?.field === "language", "it is about the language");
const nobody = { path: { id: "00000000-0000-0000-0000-000000000000" } };
const missing = await client.GET("/v1/submissions/{id}", { params: nobody });
check(missing.error?.status === 404, "an unknown submission is not found");

// Follow one live. A generated client cannot: it would wait for the end.
async function* follow(id: string): AsyncGenerator<SubmissionEvent> {
  const response = await fetch(`${address}/v1/submissions/${id}/events`);
  let text = "";
  for await (const piece of response.body!.pipeThrough(new TextDecoderStream())) {
    const lines = (text + piece).split("\n");
    text = lines.pop()!;
    for (const line of lines) {
      if (line.startsWith("data: ")) yield JSON.parse(line.slice("data: ".length));
    }
  }
}
const events: SubmissionEvent[] = [];
for await (const event of follow(submission.id)) events.push(event);
check(events.every((event, n) => event.n === n), "no event is missing");
check(events.some((event) => event.data === "42\n"), "42 is among the events");
check(events.at(-1)?.type === "finished", "the last event is the end");
