// A terminal in which a program runs: xterm, loaded when it is first wanted. Whatever the program writes stays
// inside of it: no title, no sound, no link and no clipboard is the program's.

import { FitAddon } from "@xterm/addon-fit";
import { Terminal, type ITheme } from "@xterm/xterm";
import "@xterm/xterm/css/xterm.css";
import type { Attached } from "../api/attach";
import { isDark, onTheme } from "../shared/theme";
import type { Output, Stream } from "./screen";
import { strictDocument } from "./strict-document";

/** Lines above those that are seen. */
const SCROLLBACK = 5_000;
/** Characters that wait to be drawn: as many as a run may write at the most. More are not shown. */
const MOST_WAITING = 8 * 1024 * 1024;
/** Characters that are drawn before the page gets its turn. */
const PIECE = 4 * 1024;
/** Marks on one character: thousands of them, which are no writing, would take the page's time. */
const MARKS = /([\p{M}\p{Cf}]{16})[\p{M}\p{Cf}]+/gu;
/** Characters that turn the direction of text, or that nobody sees: a row would not say what stands in it. */
const UNSEEN = /[\u061c\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]/g;
/** Sequences that do something as often as they say, and how often they may. */
const REPEATED = "ILMSTZb";
const MOST_REPEATED = 200;
/** Whatever colours a program chooses. Inverse text gets no more than this. */
const CONTRAST = 7;
/** How long after Escape a Tab leaves the terminal, as in the editor. */
const LEAVING = 2_000;

/** Ends a sequence that was begun, and takes everything back to its beginning. */
const RESET = "\x18\x1bc";
/** Ends a sequence that was begun; the mouse is the page's again, and there is no cursor. */
const END = "\x18\x1b[?1000;1002;1003l\x1b[?25l";

const light: ITheme = {
  black: "#1b2230",
  red: "#a3161f",
  green: "#14692f",
  yellow: "#7a4d00",
  blue: "#1d47b3",
  magenta: "#7d2a9c",
  cyan: "#0b6170",
  white: "#d5dae3",
  brightBlack: "#596377",
  brightRed: "#c4262f",
  brightGreen: "#1b7f3a",
  brightYellow: "#8f5b00",
  brightBlue: "#2f5bd7",
  brightMagenta: "#9838bd",
  brightCyan: "#0d7587",
  brightWhite: "#f4f5f8",
};

const dark: ITheme = {
  black: "#2a3140",
  red: "#ff8a8a",
  green: "#7fdc98",
  yellow: "#f2c26b",
  blue: "#8fb2ff",
  magenta: "#dba6f0",
  cyan: "#7fd6e4",
  white: "#cbd3e1",
  brightBlack: "#9aa5b8",
  brightRed: "#ffb3b3",
  brightGreen: "#a8ecb9",
  brightYellow: "#ffdb9a",
  brightBlue: "#b3ccff",
  brightMagenta: "#ecc8fa",
  brightCyan: "#a9e8f2",
  brightWhite: "#ffffff",
};

function theme(): ITheme {
  const styles = getComputedStyle(document.documentElement);
  const variable = (name: string) => styles.getPropertyValue(name).trim();
  return {
    ...(isDark() ? dark : light),
    background: variable("--field"),
    foreground: variable("--text"),
    cursor: variable("--accent"),
    cursorAccent: variable("--field"),
    selectionBackground: variable("--selection"),
  };
}

export class TerminalScreen implements Output {
  #terminal: Terminal;
  #full: () => void;
  #attached: Attached | undefined;
  #release: (() => void)[];
  #decoder = new TextDecoder();
  #waiting = 0;
  #past = 0;
  #escapedAt = -LEAVING;
  #isFull = false;

  /** `full` is called once when not everything is shown. */
  constructor(host: HTMLElement, full: () => void) {
    this.#full = full;
    const strict = strictDocument();
    const terminal = new Terminal({
      documentOverride: strict.document,
      fontFamily: getComputedStyle(host).fontFamily,
      fontSize: 13,
      logLevel: "off",
      minimumContrastRatio: CONTRAST,
      scrollback: SCROLLBACK,
      theme: theme(),
      cursorInactiveStyle: "outline",
    });
    this.#terminal = terminal;
    const fit = new FitAddon();
    terminal.loadAddon(fit);
    // A link of a program could say one address and lead to another: none is made.
    terminal.parser.registerOscHandler(8, () => true);
    for (const final of REPEATED) {
      terminal.parser.registerCsiHandler({ final }, ([times]) => Number(times) > MOST_REPEATED);
    }
    terminal.onData((data) => this.type(data));
    terminal.onBinary((data) => this.#send(Uint8Array.from(data, (it) => it.charCodeAt(0))));
    terminal.onResize(() => this.#tellSize());
    terminal.attachCustomKeyEventHandler((event) => this.#takes(event));
    terminal.open(host);
    terminal.textarea!.setAttribute("aria-label", "Terminal. Press Escape, then Tab, to leave it.");
    const observer = new ResizeObserver(() => fit.fit());
    observer.observe(host);
    const stop = onTheme(() => (terminal.options.theme = theme()));
    this.#release = [() => observer.disconnect(), stop, () => terminal.dispose(), strict.dispose];
  }

  /** What is typed goes there from now on, until the end. */
  connect(attached: Attached) {
    this.#attached = attached;
    this.#terminal.options.disableStdin = false;
    this.#tellSize();
  }

  clear() {
    this.#decoder = new TextDecoder();
    this.#isFull = false;
    this.#terminal.write(RESET);
  }

  /** What it is asked for by something that is past was answered then. */
  write(_: Stream, bytes: Uint8Array, isPast: boolean) {
    if (this.#isFull) return;
    const text = this.#decoder
      .decode(bytes, { stream: true })
      .replace(UNSEEN, "\ufffd")
      .replace(MARKS, "$1");
    if (this.#waiting + text.length > MOST_WAITING) return this.#fill();
    for (let at = 0; at < text.length; at += PIECE) {
      const piece = text.slice(at, at + PIECE);
      this.#waiting += piece.length;
      if (isPast) this.#past += 1;
      this.#terminal.write(piece, () => {
        this.#waiting -= piece.length;
        if (isPast) this.#past -= 1;
      });
    }
  }

  end() {
    this.#attached = undefined;
    this.#terminal.options.disableStdin = true;
    this.#terminal.options.cursorInactiveStyle = "none";
    this.#terminal.write(END, () => {
      if (this.#terminal.buffer.normal.length >= SCROLLBACK + this.#terminal.rows) this.#fill();
    });
  }

  type(text: string) {
    if (this.#past === 0) this.#send(new TextEncoder().encode(text));
  }

  focus() {
    this.#terminal.focus();
  }

  /** Whether everything is also said, for those who do not see it. */
  setAloud(isAloud: boolean) {
    this.#terminal.options.screenReaderMode = isAloud;
  }

  dispose() {
    for (const release of this.#release) release();
  }

  #send(bytes: Uint8Array) {
    this.#attached?.type(bytes);
  }

  #tellSize() {
    this.#attached?.resize(this.#terminal.rows, this.#terminal.cols);
  }

  #fill() {
    if (this.#isFull) return;
    this.#isFull = true;
    this.#full();
  }

  /** Whether a key is the program's; any other is the browser's. */
  #takes(event: KeyboardEvent): boolean {
    if (!this.#attached) {
      if (event.type === "keydown") this.#scroll(event);
      return false;
    }
    if (event.type !== "keydown" || event.key === "Shift") return true;
    if (event.key === "Tab" && event.timeStamp - this.#escapedAt < LEAVING) return false;
    this.#escapedAt = event.key === "Escape" ? event.timeStamp : -LEAVING;
    if (event.key === "C" && event.ctrlKey && event.shiftKey) {
      event.preventDefault();
      document.execCommand("copy");
      return false;
    }
    return true;
  }

  #scroll(event: KeyboardEvent) {
    if (event.key === "PageUp") this.#terminal.scrollPages(-1);
    else if (event.key === "PageDown") this.#terminal.scrollPages(1);
    else if (event.key === "Home") this.#terminal.scrollToTop();
    else if (event.key === "End") this.#terminal.scrollToBottom();
    else return;
    event.preventDefault();
  }
}
