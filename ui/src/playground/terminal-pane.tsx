// Where a program's terminal is, with what a keyboard cannot do there.

import { useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Wanted } from "./session";
import type { TerminalScreen } from "./terminal-screen";

/** Whether screen readers say what comes in terminals, kept in the browser. */
const ALOUD = "braindrill.aloud";

interface Props {
  wanted: Wanted;
  isLive: boolean;
  full: () => void;
}

export function TerminalPane({ wanted, isLive, full }: Props) {
  const host = useRef<HTMLDivElement>(null);
  const screen = useRef<TerminalScreen | undefined>(undefined);
  const [isAloud, setIsAloud] = useState(localStorage.getItem(ALOUD) !== null);

  // At once: it may be taken away again before other effects are.
  useLayoutEffect(() => {
    let isOver = false;
    const make = async () => {
      // Without one, output is shown as that of any program.
      try {
        const { TerminalScreen } = await import("./terminal-screen");
        if (isOver) return;
        screen.current = new TerminalScreen(host.current!, full);
        screen.current.setAloud(isAloud);
      } catch {
        screen.current = undefined;
      }
      wanted.made(screen.current);
    };
    void make();
    return () => {
      isOver = true;
      screen.current?.dispose();
    };
  }, []);

  const type = (text: string) => {
    screen.current?.type(text);
    screen.current?.focus();
  };
  const toggleAloud = () => {
    if (isAloud) localStorage.removeItem(ALOUD);
    else localStorage.setItem(ALOUD, "yes");
    screen.current?.setAloud(!isAloud);
    setIsAloud(!isAloud);
  };

  return (
    <>
      <div class="terminal-box" role="region" aria-label="Terminal" translate={false}>
        <div ref={host} />
      </div>
      <div class="terminal-keys">
        {isLive && (
          <>
            <button type="button" class="quiet" onClick={() => type("\x03")} title="Interrupts the program">
              Ctrl-C
            </button>
            <button type="button" class="quiet" onClick={() => type("\x04")} title="Ends its input">
              Ctrl-D
            </button>
          </>
        )}
        <button
          type="button"
          class="quiet"
          aria-pressed={isAloud}
          onClick={toggleAloud}
          title="Has a screen reader say what comes"
        >
          Screen reader
        </button>
        {isLive && (
          <p class="hint">
            <kbd>Esc</kbd>, then <kbd>Tab</kbd> leaves the terminal.
          </p>
        )}
      </div>
    </>
  );
}
