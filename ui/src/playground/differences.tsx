// Expected output and what came, line by line.

import { diffLines } from "diff";
import { useMemo } from "preact/hooks";
import { Plain } from "../shared/plain";

/** Characters that are compared; comparing takes time that grows with the square of what differs. */
const MOST = 20_000;

export function Differences({ expected, got }: { expected: string; got: string }) {
  const parts = useMemo(
    () => diffLines(expected.slice(0, MOST), got.slice(0, MOST), { stripTrailingCr: true, timeout: 500 }),
    [expected, got],
  );
  if (!parts) {
    return (
      <>
        <Plain text={expected} label="Expected" />
        <Plain text={got} label="Came" />
      </>
    );
  }
  const lines = parts.flatMap((part) => {
    const sign = part.added ? "+" : part.removed ? "−" : " ";
    const kind = part.added ? "came" : part.removed ? "missing" : "same";
    return part.value
      .replace(/\n$/, "")
      .split("\n")
      .map((line) => ({ sign, kind, line }));
  });
  const words = { came: "came: ", missing: "expected: ", same: "" };
  return (
    <>
      <div class="differences" role="group" aria-label="Differences" tabIndex={0}>
        {lines.map(({ sign, kind, line }, index) => (
          <div key={index} class={`line ${kind}`}>
            <span class="sign" aria-hidden="true">
              {sign}
            </span>
            <span class="hidden">{words[kind as keyof typeof words]}</span>
            <Plain text={line} inline />
          </div>
        ))}
      </div>
      <p class="hint">
        <span class="missing">− expected</span> <span class="came">+ came</span>
        {(expected.length > MOST || got.length > MOST) && `; the first ${MOST} characters`}
      </p>
    </>
  );
}
