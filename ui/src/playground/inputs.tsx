// What goes in beside the program: input, arguments, limits, tests.

import { useId } from "preact/hooks";
import type { Language, Limits, Test } from "../api/client";
import { size } from "../shared/words";
import { PLAIN_WALL_TIME, TERMINAL_WALL_TIME, type Draft } from "./draft";

interface Props {
  draft: Draft;
  language: Language | undefined;
  change: (fields: Partial<Draft>) => void;
}

export function Inputs({ draft, language, change }: Props) {
  const id = useId();
  const limits = Object.keys(draft.limits).length;
  const hasTests = draft.tests.length > 0;
  const hasTerminal = draft.terminal && !hasTests;
  return (
    <section class="inputs" aria-label="Input">
      <label class="switch">
        <input
          type="checkbox"
          checked={hasTerminal}
          disabled={hasTests}
          onChange={(event) => change(withTerminal(draft, event.currentTarget.checked))}
        />
        Type while it runs, in a terminal
        {hasTests && <span class="hint">not beside tests, whose input is fixed</span>}
      </label>
      {!hasTests && !hasTerminal && (
        <div class="field">
          <label for={`${id}-stdin`}>Standard input</label>
          <textarea
            id={`${id}-stdin`}
            rows={3}
            spellcheck={false}
            value={draft.stdin}
            onInput={(event) => change({ stdin: event.currentTarget.value })}
          />
        </div>
      )}
      {hasTerminal && (
        <details open={draft.first !== ""}>
          <summary>First input{draft.first !== "" && <span class="count">set</span>}</summary>
          <div class="field">
            <label for={`${id}-first`}>Typed for you as it begins</label>
            <textarea
              id={`${id}-first`}
              rows={2}
              spellcheck={false}
              value={draft.first}
              onInput={(event) => change({ first: event.currentTarget.value })}
            />
          </div>
        </details>
      )}
      <details open={draft.args !== ""}>
        <summary>Arguments{draft.args !== "" && <span class="count">set</span>}</summary>
        <div class="field">
          <label for={`${id}-args`}>Words, with quotes around those with spaces</label>
          <input
            id={`${id}-args`}
            type="text"
            spellcheck={false}
            value={draft.args}
            onInput={(event) => change({ args: event.currentTarget.value })}
          />
        </div>
      </details>
      <details open={limits > 0}>
        <summary>Limits{limits > 0 && <span class="count">{limits}</span>}</summary>
        <LimitFields
          limits={draft.limits}
          usual={{ ...language?.limits, ...(hasTerminal && { wall_time_ms: TERMINAL_WALL_TIME }) }}
          language={language}
          change={(limits) => change({ limits })}
        />
      </details>
      {!hasTests && (
        <details open={draft.collect !== ""}>
          <summary>Files{draft.collect !== "" && <span class="count">set</span>}</summary>
          <div class="field">
            <label for={`${id}-collect`}>Files and folders that it leaves, to be shown here</label>
            <input
              id={`${id}-collect`}
              type="text"
              spellcheck={false}
              placeholder="plot.png results/"
              value={draft.collect}
              onInput={(event) => change({ collect: event.currentTarget.value })}
            />
          </div>
        </details>
      )}
      <details open={hasTests}>
        <summary>
          Tests{hasTests && <span class="count">{draft.tests.length}</span>}
        </summary>
        {hasTerminal ? (
          <p class="hint">A program has either tests or a terminal.</p>
        ) : (
          <TestFields tests={draft.tests} change={(tests) => change({ tests })} />
        )}
      </details>
    </section>
  );
}

/** The terminal, or none; without one less time is allowed. */
function withTerminal(draft: Draft, terminal: boolean): Partial<Draft> {
  const { wall_time_ms, ...limits } = draft.limits;
  const isTooLong = !terminal && (wall_time_ms ?? 0) > PLAIN_WALL_TIME;
  return { terminal, ...(isTooLong && { limits }) };
}

const FIELDS: { name: keyof Limits; label: string; unit: string; scale: number }[] = [
  { name: "cpu_time_ms", label: "CPU time", unit: "ms", scale: 1 },
  { name: "wall_time_ms", label: "Time on the clock", unit: "ms", scale: 1 },
  { name: "memory_bytes", label: "Memory", unit: "MiB", scale: 1024 ** 2 },
  { name: "processes", label: "Processes", unit: "", scale: 1 },
  { name: "output_bytes", label: "Output", unit: "KiB", scale: 1024 },
  { name: "disk_bytes", label: "Files", unit: "MiB", scale: 1024 ** 2 },
];

interface LimitProps {
  limits: Limits;
  /** Those of a run that names none. */
  usual: Limits;
  language: Language | undefined;
  change: (limits: Limits) => void;
}

function LimitFields({ limits, usual, language, change }: LimitProps) {
  const id = useId();
  const set = (name: keyof Limits, text: string, scale: number) => {
    const { [name]: _, ...rest } = limits;
    change(text === "" ? rest : { ...rest, [name]: Math.round(Number(text) * scale) });
  };
  return (
    <div class="limits">
      {FIELDS.map(({ name, label, unit, scale }) => {
        const unsaid = usual[name];
        const value = limits[name];
        return (
          <div class="field" key={name}>
            <label for={`${id}-${name}`}>
              {label}
              {unit && <span class="unit"> in {unit}</span>}
            </label>
            <input
              id={`${id}-${name}`}
              type="number"
              min="0"
              step="any"
              placeholder={unsaid === undefined ? "" : String(unsaid / scale)}
              value={value === undefined ? "" : String(value / scale)}
              onInput={(event) => set(name, event.currentTarget.value, scale)}
            />
          </div>
        );
      })}
      {language && language.memory_overhead_bytes > 0 && (
        <p class="hint">
          {language.name} has {size(language.memory_overhead_bytes)} more for its own machinery.
        </p>
      )}
    </div>
  );
}

function TestFields({ tests, change }: { tests: Test[]; change: (tests: Test[]) => void }) {
  const id = useId();
  const set = (index: number, fields: Partial<Test>) =>
    change(tests.map((test, at) => (at === index ? { ...test, ...fields } : test)));
  return (
    <div class="test-fields">
      {tests.map((test, index) => (
        <fieldset key={index}>
          <legend>{test.name ?? `Test ${index + 1}`}</legend>
          <div class="field">
            <label for={`${id}-in-${index}`}>Input</label>
            <textarea
              id={`${id}-in-${index}`}
              rows={2}
              spellcheck={false}
              value={test.stdin ?? ""}
              onInput={(event) => set(index, { stdin: event.currentTarget.value })}
            />
          </div>
          <div class="field">
            <label for={`${id}-out-${index}`}>Expected output</label>
            <textarea
              id={`${id}-out-${index}`}
              rows={2}
              spellcheck={false}
              value={test.expected_output ?? ""}
              onInput={(event) => set(index, { expected_output: event.currentTarget.value })}
            />
          </div>
          <button
            type="button"
            class="quiet"
            onClick={() => change(tests.filter((_, at) => at !== index))}
          >
            Remove<span class="hidden"> {test.name ?? `test ${index + 1}`}</span>
          </button>
        </fieldset>
      ))}
      <button type="button" onClick={() => change([...tests, { stdin: "", expected_output: "" }])}>
        Add a test
      </button>
    </div>
  );
}
