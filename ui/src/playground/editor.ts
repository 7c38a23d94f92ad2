// The editor: CodeMirror, with the marks of a compiler's complaints.

import { closeBrackets, closeBracketsKeymap } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap, indentWithTab } from "@codemirror/commands";
import {
  bracketMatching,
  foldGutter,
  foldKeymap,
  indentOnInput,
  indentUnit,
  syntaxHighlighting,
} from "@codemirror/language";
import { lintGutter, setDiagnostics, type Diagnostic } from "@codemirror/lint";
import { highlightSelectionMatches, searchKeymap } from "@codemirror/search";
import { Compartment, EditorState } from "@codemirror/state";
import {
  EditorView,
  drawSelection,
  highlightActiveLine,
  highlightActiveLineGutter,
  highlightSpecialChars,
  keymap,
  lineNumbers,
} from "@codemirror/view";
import { dark, light } from "./colours";
import type { Complaint } from "./complaints";
import { isDark, onTheme } from "../shared/theme";
import { mode } from "./languages";

/** Characters that turn the direction of text, and may so hide what a line does: shown as marks. */
const TURNING = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

const look = EditorView.theme({
  "&": { height: "100%", fontSize: "14px", backgroundColor: "var(--field)", color: "var(--text)" },
  "&.cm-focused": { outline: "none" },
  ".cm-scroller": { fontFamily: "var(--mono)", lineHeight: "1.5" },
  ".cm-gutters": {
    backgroundColor: "var(--field)",
    color: "var(--faint)",
    borderRight: "1px solid var(--line)",
  },
  ".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "var(--active)" },
  ".cm-cursor": { borderLeftColor: "var(--text)" },
  "&.cm-focused .cm-selectionBackground, .cm-selectionBackground": {
    backgroundColor: "var(--selection) !important",
  },
  ".cm-tooltip": { backgroundColor: "var(--panel)", color: "var(--text)" },
});

const colours = () => syntaxHighlighting(isDark() ? dark : light);

export interface Editor {
  text(): string;
  setText(text: string): void;
  setLanguage(id: string): Promise<void>;
  complain(complaints: Complaint[]): void;
  goTo(line: number, column: number): void;
  focus(): void;
  destroy(): void;
}

export function editor(parent: HTMLElement, changed: (text: string) => void, run: () => void): Editor {
  const language = new Compartment();
  const highlight = new Compartment();
  let wanted = "";
  // In a root of its own CodeMirror adds its styles as sheets, which the page's policy allows; in the
  // document it would add them as text.
  const root = parent.shadowRoot ?? parent.attachShadow({ mode: "open" });
  const view = new EditorView({
    parent: root,
    root,
    state: EditorState.create({
      extensions: [
        lineNumbers(),
        highlightSpecialChars({ addSpecialChars: TURNING }),
        history(),
        foldGutter(),
        drawSelection(),
        indentOnInput(),
        indentUnit.of("    "),
        bracketMatching(),
        closeBrackets(),
        highlightActiveLine(),
        highlightActiveLineGutter(),
        highlightSelectionMatches(),
        lintGutter(),
        keymap.of([
          { key: "Mod-Enter", run: () => (run(), true) },
          ...closeBracketsKeymap,
          ...defaultKeymap,
          ...searchKeymap,
          ...historyKeymap,
          ...foldKeymap,
          indentWithTab,
        ]),
        highlight.of(colours()),
        language.of([]),
        look,
        EditorView.contentAttributes.of({
          "aria-label": "Program. Press Escape, then Tab, to leave the editor.",
          spellcheck: "false",
          autocorrect: "off",
          autocapitalize: "off",
          translate: "no",
          // As it is anyway; said for those who check what can be reached where something scrolls.
          tabindex: "0",
        }),
        EditorView.updateListener.of((update) => {
          if (update.docChanged) changed(update.state.doc.toString());
        }),
      ],
    }),
  });
  const stop = onTheme(() => view.dispatch({ effects: highlight.reconfigure(colours()) }));

  const position = (line: number, column: number) => {
    const found = view.state.doc.line(Math.min(Math.max(line, 1), view.state.doc.lines));
    return Math.min(found.from + Math.max(column - 1, 0), found.to);
  };

  return {
    text: () => view.state.doc.toString(),
    setText(text) {
      if (text === view.state.doc.toString()) return;
      view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: text } });
    },
    async setLanguage(id) {
      wanted = id;
      const found = await mode(id);
      // Another may have been chosen while this one was loaded.
      if (wanted === id) view.dispatch({ effects: language.reconfigure(found ?? []) });
    },
    complain(complaints) {
      const marks = complaints.map((complaint): Diagnostic => {
        const from = position(complaint.line, complaint.column ?? 1);
        const word = view.state.wordAt(from);
        const to = word?.to ?? Math.min(from + 1, view.state.doc.length);
        return { from, to, severity: complaint.severity, message: complaint.message };
      });
      view.dispatch(setDiagnostics(view.state, marks));
    },
    goTo(line, column) {
      const at = position(line, column);
      view.dispatch({ selection: { anchor: at }, effects: EditorView.scrollIntoView(at, { y: "center" }) });
      view.focus();
    },
    focus: () => view.focus(),
    destroy() {
      stop();
      view.destroy();
    },
  };
}
