// A submission followed live. The browser goes on behind the last event by itself when it was cut off.

import type { SubmissionEvent } from "./client";

const KINDS: SubmissionEvent["type"][] = [
  "state",
  "compile",
  "stdout",
  "stderr",
  "test",
  "finished",
];

export interface Followed {
  event(event: SubmissionEvent): void;
  /** Whether events come now, or the connection is being made anew. */
  connected(yes: boolean): void;
  /** The browser has given up: there is no such submission, or it cannot be followed now. */
  lost(): void;
}

/** Follows until `finished`, or until the returned function is called. */
export function follow(id: string, followed: Followed): () => void {
  const source = new EventSource(`/v1/submissions/${encodeURIComponent(id)}/events`);
  for (const kind of KINDS) {
    source.addEventListener(kind, (message: MessageEvent<string>) => {
      const event = JSON.parse(message.data) as SubmissionEvent;
      if (event.type === "finished") source.close();
      followed.event(event);
    });
  }
  source.addEventListener("open", () => followed.connected(true));
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) followed.lost();
    else followed.connected(false);
  });
  return () => source.close();
}
