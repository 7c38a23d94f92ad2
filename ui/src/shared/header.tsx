// The head of every page.

import { useState } from "preact/hooks";
import { choose, theme, type Theme } from "./theme";

const NEXT: Record<Theme, Theme> = { auto: "dark", dark: "light", light: "auto" };
const NAMES: Record<Theme, string> = { auto: "as the system", dark: "dark", light: "light" };

export function Header({ page }: { page: "playground" | "ops" }) {
  const [chosen, setChosen] = useState(theme());
  const current = (name: typeof page) => (page === name ? "page" : undefined);
  return (
    <header class="head">
      <a class="mark" href="/">
        braindrill
      </a>
      <nav aria-label="Pages">
        <a href="/" aria-current={current("playground")}>
          Playground
        </a>
        <a href="/ops" aria-current={current("ops")}>
          Operation
        </a>
        <a href="/docs">API</a>
      </nav>
      <button
        type="button"
        class="quiet theme"
        aria-label={`Colours: ${NAMES[chosen]}. Change to ${NAMES[NEXT[chosen]]}.`}
        onClick={() => {
          choose(NEXT[chosen]);
          setChosen(NEXT[chosen]);
        }}
      >
        {{ auto: "◐", dark: "●", light: "○" }[chosen]}
      </button>
    </header>
  );
}
