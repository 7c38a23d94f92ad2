// A program's terminal: its events come and what is typed goes, through one WebSocket. Cut off, it goes on
// behind the last event.

import type { SubmissionEvent } from "./client";
import type { Followed } from "./follow";

/** Bytes in one message: half of what the daemon takes. */
const MOST = 32 * 1024;
/** Bytes that are typed ahead while there is no connection; more is dropped. */
const MOST_AHEAD = 64 * 1024;
/** How long it waits before it connects again: twice as long each time that nothing came. */
const FIRST_PAUSE = 250;
const LONGEST_PAUSE = 5_000;

export interface Attached {
  type(bytes: Uint8Array): void;
  resize(rows: number, columns: number): void;
  /** Connects again, after `lost`. */
  again(): void;
  stop(): void;
}

/** Stays attached until `finished`, or until it is stopped. */
export function attach(id: string, followed: Followed): Attached {
  let socket: WebSocket | undefined;
  let timer: ReturnType<typeof setTimeout>;
  let pause = FIRST_PAUSE;
  let last: number | undefined;
  let size: string | undefined;
  let ahead: Uint8Array[] = [];
  let isOver = false;

  const isOpen = () => socket?.readyState === WebSocket.OPEN;

  const connect = () => {
    const url = new URL(`/v1/submissions/${encodeURIComponent(id)}/attach`, location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    if (last !== undefined) url.searchParams.set("after", String(last));
    const made = new WebSocket(url);
    socket = made;
    let wasOpen = false;
    made.addEventListener("open", () => {
      wasOpen = true;
      followed.connected(true);
      if (size !== undefined) made.send(size);
      for (const bytes of ahead.splice(0)) send(bytes);
    });
    made.addEventListener("message", (message: MessageEvent<string>) => {
      const event = JSON.parse(message.data) as SubmissionEvent;
      last = event.n;
      pause = FIRST_PAUSE;
      if (event.type === "finished") isOver = true;
      followed.event(event);
    });
    made.addEventListener("close", () => {
      if (isOver) return;
      if (!wasOpen) return followed.lost();
      followed.connected(false);
      timer = setTimeout(connect, pause);
      pause = Math.min(2 * pause, LONGEST_PAUSE);
    });
  };

  const send = (bytes: Uint8Array) => {
    for (let at = 0; at < bytes.length; at += MOST) socket?.send(bytes.slice(at, at + MOST));
  };

  connect();
  return {
    type(bytes) {
      if (isOver) return;
      if (isOpen()) return send(bytes);
      const length = ahead.reduce((sum, it) => sum + it.length, bytes.length);
      if (length <= MOST_AHEAD) ahead.push(bytes);
    },
    resize(rows, columns) {
      size = JSON.stringify({ type: "resize", rows, columns });
      if (isOpen() && !isOver) socket?.send(size);
    },
    again: connect,
    stop() {
      isOver = true;
      clearTimeout(timer);
      socket?.close();
    },
  };
}
