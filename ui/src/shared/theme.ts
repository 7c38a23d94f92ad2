// Dark or light: as the system says, unless somebody chose.

export type Theme = "auto" | "dark" | "light";

const KEY = "braindrill.theme";
const system = matchMedia("(prefers-color-scheme: dark)");

export function theme(): Theme {
  const kept = localStorage.getItem(KEY);
  return kept === "dark" || kept === "light" ? kept : "auto";
}

export function isDark(): boolean {
  const chosen = theme();
  return chosen === "dark" || (chosen === "auto" && system.matches);
}

const listeners = new Set<() => void>();

function apply() {
  document.documentElement.dataset["theme"] = isDark() ? "dark" : "light";
  for (const listener of listeners) listener();
}

export function choose(chosen: Theme) {
  if (chosen === "auto") localStorage.removeItem(KEY);
  else localStorage.setItem(KEY, chosen);
  apply();
}

/** Calls `listener` at each change, until the returned function is called. */
export function onTheme(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

system.addEventListener("change", apply);
apply();
