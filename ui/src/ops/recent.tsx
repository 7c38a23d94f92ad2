// The latest submissions, and what happened to one of them.

import { useEffect, useState } from "preact/hooks";
import {
  api,
  explain,
  type State,
  type Submission,
  type SubmissionEvent,
  type SubmissionSummary,
  type Verdict,
} from "../api/client";
import { follow } from "../api/follow";
import { milliseconds, sentence, size, stateName, tone, verdictName } from "../shared/words";

const EVERY = 2_000;
const SHOWN = 25;

const STATES: State[] = ["queued", "dispatching", "running", "finished"];
const VERDICTS: Verdict[] = [
  "accepted",
  "wrong_answer",
  "time_limit_exceeded",
  "memory_limit_exceeded",
  "output_limit_exceeded",
  "runtime_error",
  "compile_error",
  "cancelled",
  "internal_error",
];

export function Recent() {
  const [state, setState] = useState<State | "">("");
  const [verdict, setVerdict] = useState<Verdict | "">("");
  const [language, setLanguage] = useState("");
  const [languages, setLanguages] = useState<string[]>([]);
  const [items, setItems] = useState<SubmissionSummary[] | undefined>();
  const [trouble, setTrouble] = useState("");
  const [shown, setShown] = useState<SubmissionSummary | undefined>();

  useEffect(() => {
    void api
      .GET("/v1/languages")
      .then(({ data }) => setLanguages(data?.items.map((it) => it.id) ?? []))
      .catch(() => {});
  }, []);

  useEffect(() => {
    setShown(undefined);
    let isOver = false;
    let timer: ReturnType<typeof setTimeout>;
    const look = async () => {
      const query = {
        limit: SHOWN,
        ...(state && { state }),
        ...(verdict && { verdict }),
        ...(language && { language }),
      };
      const { data, error, response } = await api
        .GET("/v1/submissions", { params: { query } })
        .catch(() => ({ data: undefined, error: undefined, response: undefined }));
      if (isOver) return;
      if (data) {
        setItems(data.items);
        // The one that is shown stays, also when others have come after it.
        setShown((shown) => data.items.find((item) => item.id === shown?.id) ?? shown);
      }
      setTrouble(data ? "" : explain(error, response));
      timer = setTimeout(look, EVERY);
    };
    void look();
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [state, verdict, language]);

  const isListed = (it: SubmissionSummary) => items?.some((item) => item.id === it.id);
  const rows = [...(items ?? []), ...(shown && !isListed(shown) ? [shown] : [])];
  return (
    <section class="card" aria-labelledby="recent">
      <h2 id="recent">Submissions</h2>
      <div class="filters">
        <Choice label="State" all="Any state" value={state} change={setState} options={STATES} name={stateName} />
        <Choice label="Verdict" all="Any verdict" value={verdict} change={setVerdict} options={VERDICTS} name={verdictName} />
        <Choice label="Language" all="Any language" value={language} change={setLanguage} options={languages} name={(it) => it} />
      </div>
      {trouble && <p class="problem">{trouble}</p>}
      {items && rows.length === 0 && <p class="hint">There is none.</p>}
      {rows.length > 0 && (
        <div class="wide" tabIndex={0} role="group" aria-labelledby="recent">
          <table>
            <thead>
              <tr>
                <th scope="col">Submission</th>
                <th scope="col">Accepted</th>
                <th scope="col">Language</th>
                <th scope="col">State</th>
                <th scope="col" class="number">
                  Took
                </th>
                <th scope="col" class="number">
                  Attempt
                </th>
              </tr>
            </thead>
            <tbody>
              {rows.map((item) => (
                <Row
                  key={item.id}
                  item={item}
                  isShown={shown?.id === item.id}
                  show={() => setShown(shown?.id === item.id ? undefined : item)}
                />
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}

interface ChoiceProps<T extends string> {
  label: string;
  all: string;
  value: T | "";
  change: (value: T | "") => void;
  options: T[];
  name: (value: T) => string;
}

function Choice<T extends string>({ label, all, value, change, options, name }: ChoiceProps<T>) {
  return (
    <select
      aria-label={label}
      value={value}
      onChange={(event) => change(event.currentTarget.value as T | "")}
    >
      <option value="">{all}</option>
      {options.map((option) => (
        <option key={option} value={option}>
          {name(option)}
        </option>
      ))}
    </select>
  );
}

interface RowProps {
  item: SubmissionSummary;
  isShown: boolean;
  show: () => void;
}

function Row({ item, isShown, show }: RowProps) {
  const took = item.finished_at && Date.parse(item.finished_at) - Date.parse(item.created_at);
  return (
    <>
      <tr>
        <th scope="row">
          <button type="button" class="quiet id" aria-expanded={isShown} onClick={show}>
            {item.id}
          </button>
        </th>
        <td>{new Date(item.created_at).toLocaleTimeString()}</td>
        <td>{item.language}</td>
        <td>
          {item.verdict ? (
            <span class={`chip ${tone(item.verdict)}`}>{verdictName(item.verdict)}</span>
          ) : (
            <span class="chip">{stateName(item.state)}</span>
          )}
        </td>
        <td class="number">{took !== undefined && took !== "" && milliseconds(took)}</td>
        <td class="number">{item.attempt}</td>
      </tr>
      {isShown && (
        <tr>
          <td colSpan={6} class="breaks">
            <Timeline id={item.id} />
          </td>
        </tr>
      )}
    </>
  );
}

interface Happened {
  at: string;
  words: string;
  attempt: number;
}

/** What is told of a run in one line; output by how much it is. */
function words(event: SubmissionEvent): string {
  switch (event.type) {
    case "state":
      if (event.attempt === 0) return "Accepted";
      if (event.state !== "running") return stateName(event.state!);
      return event.started ? "Begun" : "Placed";
    case "compile":
      return `Compiled: ${event.compile!.reason}${event.compile!.cached ? ", kept from before" : ""}`;
    case "test":
      return `Run ${event.test}: ${verdictName(event.run!.verdict)}, ${event.run!.reason}`;
    case "finished":
      return `${verdictName(event.verdict!)}: ${event.reason}`;
    default:
      return "";
  }
}

/** Where it runs or ran, with all that finds it there. */
function place({ kind, ...ids }: NonNullable<Submission["placement"]>): string {
  if (kind === "local") return "on the daemon's machine";
  const names = Object.entries(ids).map(([name, id]) => `${name.replace("_id", "")} ${id}`);
  return `${kind === "pool" ? "warm worker" : "Nomad"}: ${names.join(", ")}`;
}

function Timeline({ id }: { id: string }) {
  const [events, setEvents] = useState<Happened[]>([]);
  const [output, setOutput] = useState(0);
  const [submission, setSubmission] = useState<Submission | undefined>();
  useEffect(() => {
    let turn = 0;
    let timer: ReturnType<typeof setTimeout>;
    const look = async () => {
      const mine = ++turn;
      const { data } = await api
        .GET("/v1/submissions/{id}", { params: { path: { id } } })
        .catch(() => ({ data: undefined }));
      if (data && mine === turn) setSubmission(data);
    };
    void look();
    let stop = () => {};
    const begin = () => {
      setEvents([]);
      setOutput(0);
      stop = follow(id, followed);
    };
    const followed = {
      event(event: SubmissionEvent) {
        if (event.type === "stdout" || event.type === "stderr") {
          setOutput((before) => before + (event.data?.length ?? 0));
          return;
        }
        const line = { at: event.at, words: words(event), attempt: event.attempt };
        setEvents((before) => [...before, line]);
        if (event.type === "state" || event.type === "finished") void look();
      },
      connected() {},
      lost() {
        timer = setTimeout(begin, EVERY);
      },
    };
    begin();
    return () => {
      turn = -1;
      clearTimeout(timer);
      stop();
    };
  }, [id]);

  const first = events[0] && Date.parse(events[0].at);
  const { placement, waiting_for: waiting } = submission ?? {};
  return (
    <div>
      <p class="facts">
        <a href={`/#${id}`}>Open in the playground</a>
        {placement && <span>{place(placement)}</span>}
        {output > 0 && <span>{size(output)} of output</span>}
      </p>
      {waiting && <p class="hint">{sentence(waiting)}</p>}
      <ol class="timeline">
        {events.map((event, index) => (
          <li key={index}>
            <time dateTime={event.at}>+{milliseconds(Date.parse(event.at) - (first ?? 0))}</time>
            <span>{event.words}</span>
            {event.attempt > 1 && <span class="hint">attempt {event.attempt}</span>}
          </li>
        ))}
      </ol>
    </div>
  );
}
