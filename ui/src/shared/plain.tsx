// Text of programs, made safe to look at.

import { useMemo } from "preact/hooks";
import { pieces } from "./terminal";

const MOST = 64 * 1024;

interface Props {
  text: string;
  label?: string;
  inline?: boolean;
}

export function Plain({ text, label, inline }: Props) {
  const shown = useMemo(() => pieces(text.slice(0, MOST)), [text]);
  const spans = shown.map((piece, index) => (
    <span key={index} class={piece.classes}>
      {piece.text}
    </span>
  ));
  if (inline) return <bdi class="plain">{spans}</bdi>;
  return (
    <pre class="screen" tabIndex={0} role="group" aria-label={label} translate={false}>
      {spans}
      {text.length > MOST && <span class="hint">{`\n… ${text.length - MOST} characters more`}</span>}
    </pre>
  );
}
