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

const severity = (word: string | undefined): Complaint["severity"] =>
  word === "warning" ? "warning" : word === "note" ? "info" : "error";

/** Finds the complaints about `file`, the name that the program was given. */
export function complaints(text: string, file: string): Complaint[] {
  const found: Complaint[] = [];
  let headline: { severity: Complaint["severity"]; message: string } | undefined;
  const base = (path: string) => path.split("/").pop();
  for (const line of text.split("\n")) {
    if (found.length >= MOST) break;
    const head = HEADLINE.exec(line);
    if (head) {
      headline = { severity: severity(head[1]), message: head[2] ?? "" };
      continue;
    }
    const arrow = ARROW.exec(line);
    if (arrow) {
      if (headline && base(arrow[1]!) === file) {
        found.push({ ...headline, line: Number(arrow[2]), column: Number(arrow[3]) });
      }
      headline = undefined;
      continue;
    }
    const match = COLONS.exec(line) ?? PARENTHESES.exec(line);
    if (match && base(match[1]!) === file && match[5]) {
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
  const name = file.replaceAll(".", "\\.");
  // Python says the innermost call last, all others first.
  const python = [...stderr.matchAll(new RegExp(`File "[^"]*${name}", line (\\d+)`, "g"))].pop();
  const other = new RegExp(`(?:^|[\\s(/])${name}:(\\d+)`, "m").exec(stderr);
  const match = python ?? other;
  if (!match) return undefined;
  const lines = stderr.trimEnd().split("\n");
  const message = python ? lines[lines.length - 1] : lines.find((line) => line.trim() !== "");
  return { line: Number(match[1]), column: undefined, severity: "error", message: message ?? "" };
}
