// Output of programs as runs of text with looks: escape sequences become looks or nothing, and characters
// that would not be seen, or would hide others, become marks. Nothing here is ever markup.

export interface Piece {
  text: string;
  /** Names of CSS classes, from a closed set. */
  classes: string;
}

/** An escape sequence that is longer is none. */
const LONGEST = 128;

const MARKED = /[\0-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]/g;

function mark(character: string): string {
  const code = character.charCodeAt(0);
  if (code < 0x20) return String.fromCharCode(0x2400 + code);
  if (code === 0x7f) return "\u2421";
  return `[U+${code.toString(16).toUpperCase().padStart(4, "0")}]`;
}

interface Look {
  bold: boolean;
  dim: boolean;
  italic: boolean;
  underline: boolean;
  inverse: boolean;
  colour: number | undefined;
  ground: number | undefined;
}

const PLAIN: Look = {
  bold: false,
  dim: false,
  italic: false,
  underline: false,
  inverse: false,
  colour: undefined,
  ground: undefined,
};

function classes(look: Look): string {
  const names = (["bold", "dim", "italic", "underline", "inverse"] as const).filter((it) => look[it]);
  const all: string[] = names.map((name) => `t-${name}`);
  if (look.colour !== undefined) all.push(`t-fg${look.colour}`);
  if (look.ground !== undefined) all.push(`t-bg${look.ground}`);
  return all.join(" ");
}

/** One stream of a program, piece by piece. */
export class Terminal {
  #decoder = new TextDecoder();
  #look: Look = PLAIN;
  /** The beginning of something that is not whole yet: an escape sequence, or a return before a line end. */
  #begun = "";

  /** What more bytes look like. */
  write(bytes: Uint8Array): Piece[] {
    return this.#text(this.#begun + this.#decoder.decode(bytes, { stream: true }), false);
  }

  /** What is left of it when nothing more comes. */
  end(): Piece[] {
    return this.#text(this.#begun + this.#decoder.decode(), true);
  }

  #text(text: string, isLast: boolean): Piece[] {
    this.#begun = "";
    const pieces: Piece[] = [];
    const push = (plain: string) => {
      if (plain === "") return;
      const shown = plain.replace(/\r\n?/g, "\n").replace(MARKED, mark);
      pieces.push({ text: shown, classes: classes(this.#look) });
    };
    let at = 0;
    while (at < text.length) {
      const escape = text.indexOf("\x1b", at);
      if (escape < 0) {
        const rest = text.slice(at);
        // A return is a line end by itself only if no line end follows.
        if (!isLast && rest.endsWith("\r")) {
          this.#begun = "\r";
          push(rest.slice(0, -1));
        } else {
          push(rest);
        }
        break;
      }
      push(text.slice(at, escape));
      const length = this.#escape(text.slice(escape, escape + LONGEST));
      if (length === undefined) {
        if (!isLast && text.length - escape < LONGEST) {
          this.#begun = text.slice(escape);
          break;
        }
        push("\u241b");
        at = escape + 1;
      } else {
        at = escape + length;
      }
    }
    return pieces;
  }

  /** The length of the escape sequence that a text begins with; undefined where it is not whole. */
  #escape(text: string): number | undefined {
    const control = /^\x1b\[([0-?]*)[ -/]*([@-~])/.exec(text);
    if (control) {
      if (control[2] === "m") this.#select(control[1]!);
      return control[0].length;
    }
    // A title, a link and the like, up to BEL or ESC \.
    const command = /^\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)/.exec(text);
    if (command) return command[0].length;
    const short = /^\x1b[ -/]*[0-OQ-WYZ\\`-~]/.exec(text);
    return short?.[0].length;
  }

  #select(parameters: string) {
    const numbers = parameters.split(/[;:]/).map((word) => (word === "" ? 0 : Number(word)));
    for (let index = 0; index < numbers.length; index++) {
      const number = numbers[index]!;
      const look = { ...this.#look };
      if (number === 0) Object.assign(look, PLAIN);
      else if (number === 1) look.bold = true;
      else if (number === 2) look.dim = true;
      else if (number === 3) look.italic = true;
      else if (number === 4) look.underline = true;
      else if (number === 7) look.inverse = true;
      else if (number === 22) look.bold = look.dim = false;
      else if (number === 23) look.italic = false;
      else if (number === 24) look.underline = false;
      else if (number === 27) look.inverse = false;
      else if (number >= 30 && number <= 37) look.colour = number - 30;
      else if (number >= 90 && number <= 97) look.colour = number - 82;
      else if (number === 39) look.colour = undefined;
      else if (number >= 40 && number <= 47) look.ground = number - 40;
      else if (number >= 100 && number <= 107) look.ground = number - 92;
      else if (number === 49) look.ground = undefined;
      else if (number === 38 || number === 48) {
        // Of 256 colours the first 16 are these; any other is left as it is.
        const indexed = numbers[index + 1] === 5 ? numbers[index + 2] : undefined;
        if (indexed !== undefined && indexed < 16) {
          if (number === 38) look.colour = indexed;
          else look.ground = indexed;
        }
        index += numbers[index + 1] === 5 ? 2 : 4;
      }
      this.#look = look;
    }
  }
}

/** A whole text at once. */
export function pieces(text: string): Piece[] {
  const terminal = new Terminal();
  return [...terminal.write(new TextEncoder().encode(text)), ...terminal.end()];
}
