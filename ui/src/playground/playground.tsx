// The page: a program on one side, what goes in and what comes out on the other.

import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { api, text, type Language } from "../api/client";
import { Header } from "../shared/header";
import { complaints as find, failedAt, type Complaint } from "./complaints";
import { fromRequest, keep, keepLanguage, keptLanguage, load, toRequest, type Draft } from "./draft";
import { editor, type Editor } from "./editor";
import { examples } from "./examples";
import { Inputs } from "./inputs";
import { Results } from "./results";
import { Screen } from "./screen";
import { useSession } from "./session";

const FIRST = "python";

export function Playground() {
  const [languages, setLanguages] = useState<Language[]>([]);
  const [trouble, setTrouble] = useState<string | undefined>();
  const [language, setLanguage] = useState(keptLanguage() ?? FIRST);
  const [draft, setDraft] = useState<Draft>(() => load(language));
  const [isFull, setIsFull] = useState(false);
  const full = useCallback(() => setIsFull(true), []);
  const [copied, setCopied] = useState("");
  const place = useRef<HTMLDivElement>(null);
  const output = useRef<HTMLPreElement>(null);
  const code = useRef<Editor | undefined>(undefined);
  const screen = useRef<Screen | undefined>(undefined);

  const theScreen = useCallback(() => {
    screen.current ??= new Screen(output.current!, full);
    return screen.current;
  }, []);
  const { session, send, open, cancel } = useSession(theScreen);
  const isRunning = session.phase === "sending" || session.phase === "live";

  const chosen = languages.find((it) => it.id === language);
  // One's own draft is kept; a program that a link brought only once it is changed.
  const isOwn = useRef(true);
  const change = useCallback((fields: Partial<Draft>) => {
    setDraft((before) => {
      if (fields.source === undefined || fields.source !== before.source) isOwn.current = true;
      return { ...before, ...fields };
    });
  }, []);
  const replace = useCallback((id: string, draft: Draft) => {
    setLanguage(id);
    setDraft(draft);
    code.current?.setText(draft.source);
    void code.current?.setLanguage(id);
  }, []);

  // What the editor calls must be what it is now.
  const run = useRef(() => {});
  run.current = () => {
    if (isRunning) return;
    setIsFull(false);
    keepLanguage(language);
    void send(toRequest(language, draft));
  };

  useEffect(() => {
    const made = editor(place.current!, (source) => change({ source }), () => run.current());
    code.current = made;
    made.setText(draft.source);
    void made.setLanguage(language);
    return () => made.destroy();
  }, []);

  useEffect(() => {
    const keys = (event: KeyboardEvent) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.defaultPrevented) {
        event.preventDefault();
        run.current();
      }
    };
    addEventListener("keydown", keys);
    return () => removeEventListener("keydown", keys);
  }, []);

  useEffect(() => {
    void (async () => {
      const { data } = await api.GET("/v1/languages").catch(() => ({ data: undefined }));
      if (!data) return setTrouble("The languages cannot be read: the daemon does not answer.");
      setLanguages(data.items);
      const usable = data.items.filter((it) => it.available);
      if (location.hash === "" && !usable.some((it) => it.id === language) && usable[0]) {
        replace(usable[0].id, load(usable[0].id));
      }
    })();
  }, []);

  // The address names the submission that is shown, so that it can be passed on.
  const shown = useRef(session.id);
  shown.current = session.id;
  useEffect(() => {
    const show = async () => {
      const id = location.hash.slice(1);
      if (id === "" || id === shown.current) return;
      setIsFull(false);
      const request = await open(id);
      if (!request) return;
      isOwn.current = false;
      replace(request.language, fromRequest(request));
    };
    void show();
    addEventListener("popstate", show);
    addEventListener("hashchange", show);
    return () => {
      removeEventListener("popstate", show);
      removeEventListener("hashchange", show);
    };
  }, []);

  useEffect(() => {
    if (isOwn.current) keep(language, draft);
  }, [language, draft]);

  // The sooner it is there, the sooner the program knows its size.
  useEffect(() => {
    if (draft.terminal) void import("./terminal-screen").catch(() => {});
  }, [draft.terminal]);

  const found = useMemo((): Complaint[] => {
    const file = session.request?.entrypoint ?? session.submission?.request?.entrypoint ?? chosen?.source_file ?? "";
    if (file === "") return [];
    if (session.compile) {
      const said = text(session.compile.stderr) + text(session.compile.stdout);
      const all = find(said, file);
      if (all.length > 0) return all;
    }
    const run = session.submission?.outcome?.runs[0];
    const at = run?.verdict === "runtime_error" ? failedAt(text(run.stderr), file) : undefined;
    return at ? [at] : [];
  }, [session.compile, session.submission, chosen]);
  useEffect(() => code.current?.complain(found), [found]);

  const share = async () => {
    // Browsers have a clipboard for pages of this machine and behind TLS alone.
    const copied = await navigator.clipboard?.writeText(location.href).then(
      () => true,
      () => false,
    );
    setCopied(copied ? "Copied" : "It is in the address bar");
    setTimeout(() => setCopied(""), 3000);
  };

  return (
    <>
      <Header page="playground" />
      <main class="playground">
        <section class="program" aria-label="Program">
          <div class="bar">
            <label class="hidden" for="language">
              Language
            </label>
            <select
              id="language"
              value={language}
              onChange={(event) => {
                const id = event.currentTarget.value;
                isOwn.current = true;
                replace(id, load(id));
              }}
            >
              {languages.length === 0 && <option value={language}>{language}</option>}
              {languages.map((it) => (
                <option key={it.id} value={it.id} disabled={!it.available} title={it.reason ?? ""}>
                  {it.name}
                  {it.version && ` ${it.version}`}
                  {!it.available && " (unavailable)"}
                </option>
              ))}
            </select>
            <label class="hidden" for="example">
              Example
            </label>
            <select
              id="example"
              value=""
              onChange={(event) => {
                const picked = examples(language)[Number(event.currentTarget.value)];
                event.currentTarget.value = "";
                if (!picked) return;
                isOwn.current = true;
                replace(language, fromRequest(picked.request));
              }}
            >
              <option value="" disabled>
                Examples
              </option>
              {examples(language).map((example, index) => (
                <option key={index} value={index}>
                  {example.name}
                </option>
              ))}
            </select>
            <span class="space" />
            {session.id && (
              <button type="button" class="quiet" onClick={() => void share()}>
                {copied || "Copy link"}
              </button>
            )}
            {isRunning ? (
              <button type="button" class="stop" onClick={() => void cancel()} disabled={!session.id}>
                Cancel
              </button>
            ) : (
              <button type="button" class="run" onClick={() => run.current()} title="Ctrl-Enter">
                Run
              </button>
            )}
          </div>
          {trouble && <p class="problem">{trouble}</p>}
          <div class="editor" ref={place} />
        </section>
        <div class="side">
          <Inputs draft={draft} language={chosen} change={change} />
          <Results
            session={session}
            complaints={found}
            tests={session.request?.tests ?? []}
            screen={output}
            isFull={isFull}
            full={full}
            goTo={(complaint) => code.current?.goTo(complaint.line, complaint.column ?? 1)}
          />
        </div>
      </main>
    </>
  );
}

