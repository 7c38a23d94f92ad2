// Where output appears as it comes. Written to directly: a program may say thousands of lines a second.

import { Terminal, type Piece } from "../shared/terminal";

/** Characters that are shown; more would make the page slow, and can be had by a link. */
const MOST = 256 * 1024;
/** Characters in one element, and elements: a program may change its colour with each character. */
const ELEMENT = 8 * 1024;
const MOST_PIECES = 10_000;

export type Stream = "stdout" | "stderr";

/** What shows the output of a program. */
export interface Output {
  clear(): void;
  /** `isPast` says that it was written before it was asked for, by a program that may still run. */
  write(stream: Stream, bytes: Uint8Array, isPast: boolean): void;
  /** Nothing more comes; may be called again. */
  end(): void;
}

export class Screen implements Output {
  #host: HTMLElement;
  #full: () => void;
  #terminals: Record<Stream, Terminal> = { stdout: new Terminal(), stderr: new Terminal() };
  #waiting: [Stream, Piece][] = [];
  #length = 0;
  #pieces = 0;
  #frame = 0;
  #isFull = false;
  #last: { key: string; node: Text } | undefined;

  /** `full` is called once when no more will be shown. */
  constructor(host: HTMLElement, full: () => void) {
    this.#host = host;
    this.#full = full;
  }

  clear() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.#terminals = { stdout: new Terminal(), stderr: new Terminal() };
    this.#waiting = [];
    this.#length = 0;
    this.#pieces = 0;
    this.#isFull = false;
    this.#last = undefined;
    this.#host.replaceChildren();
  }

  write(stream: Stream, bytes: Uint8Array) {
    if (!this.#isFull) this.#add(stream, this.#terminals[stream].write(bytes));
  }

  end() {
    for (const stream of ["stdout", "stderr"] as const) {
      if (!this.#isFull) this.#add(stream, this.#terminals[stream].end());
    }
    this.#show();
  }

  #add(stream: Stream, pieces: Piece[]) {
    for (const piece of pieces) {
      const room = MOST - this.#length;
      this.#pieces += 1;
      if (piece.text.length > room || (this.#pieces > MOST_PIECES && piece.classes !== "")) {
        piece.text = piece.text.slice(0, room);
        this.#isFull = true;
      }
      this.#length += piece.text.length;
      this.#waiting.push([stream, piece]);
      if (this.#isFull) {
        this.#full();
        break;
      }
    }
    if (this.#frame === 0 && this.#waiting.length > 0) {
      this.#frame = requestAnimationFrame(() => this.#show());
    }
  }

  #show() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    const host = this.#host;
    const isAtEnd = host.scrollHeight - host.scrollTop - host.clientHeight < 24;
    for (const [stream, piece] of this.#waiting.splice(0)) {
      const key = `${stream} ${piece.classes}`;
      if (this.#last?.key === key && this.#last.node.length < ELEMENT) {
        this.#last.node.appendData(piece.text);
        continue;
      }
      const element = document.createElement("span");
      element.className = key.trim();
      const node = document.createTextNode(piece.text);
      element.append(node);
      host.append(element);
      this.#last = { key, node };
    }
    if (isAtEnd) host.scrollTop = host.scrollHeight;
  }
}
