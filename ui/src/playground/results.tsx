// What came of a submission: its state or verdict, what the compiler said, its output, its tests.

import type { RefObject } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { text, type Run, type Submission, type Test } from "../api/client";
import { milliseconds, sentence, size, stateName, tone, verdictName } from "../shared/words";
import { Plain } from "../shared/plain";
import type { Complaint } from "./complaints";
import { Differences } from "./differences";
import { Files } from "./files";
import type { Session } from "./session";
import { TerminalPane } from "./terminal-pane";

interface Props {
  session: Session;
  complaints: Complaint[];
  tests: Test[];
  screen: RefObject<HTMLPreElement | null>;
  /** Not all output is shown. */
  isFull: boolean;
  full: () => void;
  goTo: (complaint: Complaint) => void;
}

export function Results({ session, complaints, tests, screen, isFull, full, goTo }: Props) {
  const outcome = session.submission?.outcome;
  const { compile, terminal } = session;
  const place = useRef<HTMLElement>(null);
  // It begins out of sight where there are many tests, or where the page is narrow.
  useEffect(() => {
    if (session.phase !== "idle") place.current?.scrollIntoView({ block: "nearest" });
  }, [session.phase]);
  const compiled = compile ? text(compile.stdout) + text(compile.stderr) : "";
  return (
    <section class="results" aria-label="Result" ref={place}>
      <Status session={session} />
      {compiled !== "" && (
        <details class="compile" open={!compile!.success}>
          <summary>What the compiler wrote</summary>
          <Complaints complaints={complaints} goTo={goTo} />
          <Plain text={compiled} label="What the compiler wrote" />
        </details>
      )}
      {compiled === "" && <Complaints complaints={complaints} goTo={goTo} />}
      {tests.length > 0 && session.phase !== "idle" && (
        <Tests session={session} tests={tests} runs={outcome?.runs} />
      )}
      <div class="output" hidden={tests.length > 0 || outcome?.verdict === "compile_error"}>
        <h2>{terminal ? "Terminal" : "Output"}</h2>
        {terminal && (
          <TerminalPane key={terminal.turn} wanted={terminal} isLive={session.phase !== "finished"} full={full} />
        )}
        <pre
          ref={screen}
          class="screen"
          hidden={terminal !== undefined}
          tabIndex={0}
          role="log"
          aria-label="Output"
          translate={false}
          data-empty={session.phase === "finished" ? "It wrote nothing." : "Nothing yet."}
        />
        {isFull && session.id && <Rest id={session.id} hasTerminal={terminal !== undefined} />}
      </div>
      {session.submission && <Files submission={session.submission} />}
      {session.submission && <Facts submission={session.submission} />}
    </section>
  );
}

function Status({ session }: { session: Session }) {
  const outcome = session.submission?.outcome;
  const run = outcome?.runs.length === 1 ? outcome.runs[0] : undefined;
  return (
    <div class="status" role="status" aria-live="polite">
      {session.problem && <p class="problem">{session.problem}</p>}
      {outcome && (
        <p class="verdict">
          <strong class={`chip ${tone(outcome.verdict)}`}>{verdictName(outcome.verdict)}</strong>
          <span class="reason">{sentence(outcome.reason)}</span>
          {run && run.verdict !== "skipped" && <Figures run={run} />}
        </p>
      )}
      {!outcome && !session.problem && session.phase === "idle" && (
        <p class="hint">
          Run it with the button, or with <kbd>Ctrl</kbd> <kbd>Enter</kbd>.
        </p>
      )}
      {!outcome && session.phase !== "idle" && session.phase !== "finished" && (
        <p class="progress">
          <span class="spinner" aria-hidden="true" />
          {session.phase === "sending" ? "Sending" : stateName(session.state ?? "queued")}
          {session.attempt > 1 && `, attempt ${session.attempt}`}
          {session.waiting && <span class="reason">{sentence(session.waiting)}</span>}
          {!session.isConnected && <span class="reason">The connection is gone; trying again.</span>}
        </p>
      )}
    </div>
  );
}

function Figures({ run }: { run: Run }) {
  return (
    <span class="figures">
      <span title="User and system time of all its processes">
        {milliseconds(run.cpu_time_ms)} <small>CPU</small>
      </span>
      <span title="Time on the clock">
        {milliseconds(run.wall_time_ms)} <small>clock</small>
      </span>
      <span title="Peak of its memory">
        {size(run.memory_bytes)} <small>memory</small>
      </span>
    </span>
  );
}

function Complaints({ complaints, goTo }: Pick<Props, "complaints" | "goTo">) {
  if (complaints.length === 0) return null;
  return (
    <ul class="complaints" aria-label="Where it is wrong">
      {complaints.map((complaint, index) => (
        <li key={index}>
          <button type="button" class={`complaint ${complaint.severity}`} onClick={() => goTo(complaint)}>
            <span class="place">
              line {complaint.line}
              {complaint.column !== undefined && `:${complaint.column}`}
            </span>
            <span class="words">{complaint.message}</span>
          </button>
        </li>
      ))}
    </ul>
  );
}

function Rest({ id, hasTerminal }: { id: string; hasTerminal: boolean }) {
  if (hasTerminal) {
    return (
      <p class="hint">
        More came than is shown here:{" "}
        <a href={`/v1/submissions/${id}/stdout`} download={`${id}.stdout`}>
          all that was kept
        </a>
      </p>
    );
  }
  return (
    <p class="hint">
      More came than is shown here. All that was kept:{" "}
      <a href={`/v1/submissions/${id}/stdout`} download={`${id}.stdout`}>
        stdout
      </a>
      ,{" "}
      <a href={`/v1/submissions/${id}/stderr`} download={`${id}.stderr`}>
        stderr
      </a>,{" "}
      <a href={`/v1/submissions/${id}/output`} download={`${id}.output`}>
        both as they were written
      </a>
    </p>
  );
}

function Tests({ session, tests, runs }: { session: Session; tests: Test[]; runs: Run[] | undefined }) {
  const [open, setOpen] = useState<number | undefined>(undefined);
  const passed = Object.values(session.runs).filter((run) => run.verdict === "accepted").length;
  return (
    <div class="tests">
      <h2>
        Tests <span class="count">{`${passed} of ${tests.length}`}</span>
      </h2>
      <table>
        <thead>
          <tr>
            <th scope="col">Test</th>
            <th scope="col">Result</th>
            <th scope="col" class="number">
              CPU
            </th>
            <th scope="col" class="number">
              Memory
            </th>
          </tr>
        </thead>
        <tbody>
          {tests.map((test, index) => {
            const run = session.runs[index + 1];
            const name = run?.test ?? test.name ?? String(index + 1);
            const isOpen = open === index;
            return [
              <tr key={index}>
                <th scope="row">
                  <button
                    type="button"
                    class="quiet"
                    disabled={!runs?.[index]}
                    aria-expanded={isOpen}
                    onClick={() => setOpen(isOpen ? undefined : index)}
                  >
                    <Plain text={name} inline />
                  </button>
                </th>
                <td>
                  {run ? (
                    <span class={`chip ${tone(run.verdict)}`}>{verdictName(run.verdict)}</span>
                  ) : (
                    <span class="hint">{session.phase === "finished" ? "not run" : "…"}</span>
                  )}
                </td>
                <td class="number">{run && milliseconds(run.cpu_time_ms)}</td>
                <td class="number">{run && size(run.memory_bytes)}</td>
              </tr>,
              isOpen && runs?.[index] && (
                <tr key={`${index}-more`} class="more">
                  <td colSpan={4}>
                    <TestDetails test={test} run={runs[index]} />
                  </td>
                </tr>
              ),
            ];
          })}
        </tbody>
      </table>
    </div>
  );
}

function TestDetails({ test, run }: { test: Test; run: Run }) {
  const got = text(run.stdout);
  const errors = text(run.stderr);
  const expected = test.expected_output;
  return (
    <>
      <p>{sentence(run.reason)}</p>
      {test.stdin !== undefined && test.stdin !== "" && (
        <>
          <h3>Input</h3>
          <Plain text={test.stdin} label="Input" />
        </>
      )}
      {expected !== undefined && run.verdict === "wrong_answer" ? (
        <>
          <h3>Expected, and what came</h3>
          <Differences expected={expected} got={got} />
        </>
      ) : (
        <>
          <h3>Output</h3>
          <Plain text={got} label="Output" />
        </>
      )}
      {errors !== "" && (
        <>
          <h3>stderr</h3>
          <Plain text={errors} label="stderr" />
        </>
      )}
    </>
  );
}

function Facts({ submission }: { submission: Submission }) {
  const { id, placement, attempt, outcome } = submission;
  const where = placement && {
    local: "on the daemon's machine",
    pool: `on worker ${placement.worker_id}`,
    nomad: `in allocation ${placement.allocation_id ?? "(unknown)"}`,
  }[placement.kind];
  return (
    <p class="facts">
      <a href={`/v1/submissions/${id}`}>{id}</a>
      {where && <span>ran {where}</span>}
      {attempt > 1 && <span>attempt {attempt}</span>}
      {outcome?.compile?.cached && <span>compiled before, and kept</span>}
    </p>
  );
}
