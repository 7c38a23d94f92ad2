// What compilers and interpreters complain of, with the line that they mean.

export interface Complaint {
  line: number;
  column: number | undefined;
  severity: "error" | "warning" | "info";
  message: string;
}

/** More are not marked: a compiler that lost its way says hundreds. */
const MOST = 50;

// FILE:LINE:COLUMN: error: MESSAGE (gcc, clang, go, kotlinc), also without the column (javac, scalac).
const COLONS =
  /^(?:\.\/|\/[\w./-]*\/)?([\w./-]+\.\w+):(\d+)(?::(\d+))?:?\s+(?:(fatal error|error|warning|note)\b:?\s*)?(.*)$/;
// FILE(LINE,COLUMN): error TS1005: MESSAGE
const PARENTHESES = /^([\w./-]+\.\w+)\((\d+),(\d+)\):\s+(error|warning)\s+(.*)$/;
// error[E0425]: MESSAGE, and on a later line: --> FILE:LINE:COLUMN
const HEADLINE = /^(error|warning)(?:\[\w+\])?: (.*)$/;
const ARROW = /^\s*--> ([\w./-]+\.\w+):(\d+):(\d+)$/;

/** Characters of a text, and of a line of it, that are looked at: nobody reads more, and it takes time. */
const MOST_TEXT = 128 * 1024;
const MOST_LINE = 1000;

const base = (path: string): string => path.split("/").pop() ?? "";

const readable = (text: string): string[] =>
  text
    .slice(0, MOST_TEXT)
    .split("\n")
    .filter((line) => line.length <= MOST_LINE);

const severity = (word: string | undefined): Complaint["severity"] =>
  word === "warning" ? "warning" : word === "note" ? "info" : "error";

/** Finds the complaints about `file`, the name that the program was given. */
export function complaints(text: string, file: string): Complaint[] {
  const found: Complaint[] = [];
  let headline: { severity: Complaint["severity"]; message: string } | undefined;
  const name = base(file);
  for (const line of readable(text)) {
    if (found.length >= MOST) break;
    const head = HEADLINE.exec(line);
    if (head) {
      headline = { severity: severity(head[1]), message: head[2] ?? "" };
      continue;
    }
    const arrow = ARROW.exec(line);
    if (arrow) {
      if (headline && base(arrow[1]!) === name) {
        found.push({ ...headline, line: Number(arrow[2]), column: Number(arrow[3]) });
      }
      headline = undefined;
      continue;
    }
    const match = COLONS.exec(line) ?? PARENTHESES.exec(line);
    if (match && base(match[1]!) === name && match[5]) {
      found.push({
        line: Number(match[2]),
        column: match[3] ? Number(match[3]) : undefined,
        severity: severity(match[4]),
        message: match[5],
      });
    }
  }
  return found;
}

/** The line of `file` at which a program failed, from the trace that it wrote. */
export function failedAt(stderr: string, file: string): Complaint | undefined {
  const name = base(file);
  const lines = readable(stderr);
  let found: number | undefined;
  let isPython = false;
  for (const line of lines) {
    // Python says the innermost call last, all others first.
    const python = /^\s*File "([^"]*)", line (\d+)/.exec(line);
    if (python) {
      if (base(python[1]!) === name) found = Number(python[2]);
      isPython = true;
    } else if (!isPython && found === undefined) {
      found = numberBehind(line, name);
    }
  }
  if (found === undefined) return undefined;
  const spoken = lines.filter((line) => line.trim() !== "");
  const message = isPython ? spoken[spoken.length - 1] : spoken[0];
  return { line: found, column: undefined, severity: "error", message: message ?? "" };
}

/** The number in `NAME:NUMBER`, where the name begins a word. */
function numberBehind(line: string, name: string): number | undefined {
  for (let at = line.indexOf(name); at >= 0; at = line.indexOf(name, at + 1)) {
    const before = at === 0 ? " " : line.charAt(at - 1);
    const number = /^:(\d+)/.exec(line.slice(at + name.length, at + name.length + 12));
    if (number && " \t(/".includes(before)) return Number(number[1]);
  }
  return undefined;
}
