// One submission on the page: sent, followed, and read when it has ended.

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import {
  api,
  bytes,
  explain,
  type CompileReport,
  type RunSummary,
  type State,
  type Submission,
  type SubmissionEvent,
  type SubmissionRequest,
} from "../api/client";
import { attach } from "../api/attach";
import { follow, type Followed } from "../api/follow";
import type { Output, Screen } from "./screen";
import type { TerminalScreen } from "./terminal-screen";

export interface Session {
  id: string | undefined;
  phase: "idle" | "sending" | "live" | "finished";
  state: State | undefined;
  attempt: number;
  /** What it waits for, as a sentence. */
  waiting: string | undefined;
  compile: CompileReport | undefined;
  /** How runs went, by the number of the test. */
  runs: Record<number, RunSummary>;
  submission: Submission | undefined;
  /** What was sent. */
  request: SubmissionRequest | undefined;
  /** The terminal that the page makes for it, where it has one. */
  terminal: Wanted | undefined;
  /** Why it could not be sent, read or followed. */
  problem: string | undefined;
  isConnected: boolean;
}

/** A terminal that is wanted: one for each submission. */
export interface Wanted {
  turn: number;
  /** It is there; undefined where it could not be loaded. */
  made(screen: TerminalScreen | undefined): void;
}

const IDLE: Session = {
  id: undefined,
  phase: "idle",
  state: undefined,
  attempt: 0,
  waiting: undefined,
  compile: undefined,
  runs: {},
  submission: undefined,
  request: undefined,
  terminal: undefined,
  problem: undefined,
  isConnected: true,
};

/** How often it is asked what a submission waits for, and whether it can be followed again. */
const ASK_AGAIN = 2_000;

export interface Controls {
  session: Session;
  send(request: SubmissionRequest): Promise<void>;
  /** Shows a submission that was sent before; undefined where there is none. */
  open(id: string): Promise<SubmissionRequest | undefined>;
  cancel(): Promise<void>;
}

/** How a submission is watched. */
interface Watching {
  terminal: Promise<TerminalScreen | undefined> | undefined;
  /** Whether it may run still, so that something can be typed. */
  isLive: boolean;
  /** Whether it was sent from here just now. */
  isNew: boolean;
  /** What happened before is past: milliseconds of the daemon's clock. */
  since: number;
}

export function useSession(screen: () => Screen): Controls {
  const [session, setSession] = useState<Session>(IDLE);
  const leave = useRef<() => void>(() => {});
  const attempt = useRef(0);
  const change = useCallback(
    (fields: Partial<Session>) => setSession((before) => ({ ...before, ...fields })),
    [],
  );

  // Raised with each submission that is shown: what was asked for an earlier one is passed over.
  const turn = useRef(0);

  /** Has the page make a terminal, where one is wanted. */
  const want = useCallback(
    (hasTerminal: boolean | undefined) => {
      if (!hasTerminal) return undefined;
      return new Promise<TerminalScreen | undefined>((made) => {
        change({ terminal: { turn: turn.current, made } });
      });
    },
    [change],
  );

  const watch = useCallback(
    async (id: string, { terminal: expected, isLive, isNew, since }: Watching) => {
      const mine = turn.current;
      const isOver = () => mine !== turn.current;
      let timer: ReturnType<typeof setTimeout>;
      let stop = () => {};
      leave.current = () => {
        stop();
        clearTimeout(timer);
      };
      const terminal = await expected;
      if (isOver()) return;
      if (expected && !terminal) change({ problem: "The terminal cannot be loaded." });
      const output: Output = terminal ?? screen();
      let again = () => begin();
      const followed: Followed = {
        event: (it) => event(it),
        connected: (isConnected) => {
          if (!isOver()) change({ isConnected });
        },
        lost: () => void look(),
      };
      const begin = () => {
        attempt.current = 0;
        output.clear();
        if (!terminal || !isLive) {
          stop = follow(id, followed);
          return;
        }
        const attached = attach(id, followed);
        stop = attached.stop;
        again = attached.again;
        terminal.connect(attached);
        if (isNew) terminal.focus();
      };
      const event = (event: SubmissionEvent) => {
        if (isOver()) return;
        if (event.attempt > attempt.current) {
          if (attempt.current > 0) {
            output.clear();
            change({ compile: undefined, runs: {} });
          }
          attempt.current = event.attempt;
        }
        switch (event.type) {
          case "state":
            change({ state: event.state, attempt: event.attempt, waiting: undefined });
            break;
          case "compile":
            change({ compile: event.compile });
            break;
          case "stdout":
          case "stderr":
            output.write(
              event.type,
              bytes(event.data ?? "", event.encoding ?? "utf8"),
              Date.parse(event.at) < since,
            );
            break;
          case "test":
            setSession((before) => ({
              ...before,
              runs: { ...before.runs, [event.test!]: event.run! },
            }));
            break;
          case "finished":
            output.end();
            void look();
        }
      };
      // After the end, and where it cannot be followed: then it is followed anew, from the first event, or
      // attached to again, behind the last.
      const look = async () => {
        const { data, error, response } = await read(id);
        if (isOver()) return;
        if (data?.state === "finished") {
          output.end();
          change({ phase: "finished", state: "finished", submission: data, isConnected: true });
        } else if (response?.status === 404) {
          output.end();
          change({ phase: "finished", problem: explain(error, response) });
        } else {
          change({ isConnected: false });
          timer = setTimeout(again, ASK_AGAIN);
        }
      };
      begin();
    },
    [change, screen],
  );

  const begin = useCallback(
    (fields: Partial<Session>) => {
      leave.current();
      leave.current = () => {};
      turn.current += 1;
      screen().clear();
      setSession({ ...IDLE, ...fields });
      const mine = turn.current;
      return () => mine !== turn.current;
    },
    [screen],
  );

  const send = useCallback(
    async (request: SubmissionRequest) => {
      const isOver = begin({ phase: "sending", request });
      const terminal = want(request.tty);
      const sent = await api
        .POST("/v1/submissions", { body: request })
        .catch(() => ({ data: undefined, error: undefined, response: undefined }));
      if (isOver()) return;
      if (!sent.data) {
        change({ phase: "idle", terminal: undefined, problem: explain(sent.error, sent.response) });
        return;
      }
      const { id, state } = sent.data;
      change({ id, state, phase: "live" });
      history.pushState(null, "", `#${id}`);
      void watch(id, { terminal, isLive: true, isNew: true, since: 0 });
    },
    [begin, change, want, watch],
  );

  const open = useCallback(
    async (id: string) => {
      const isOver = begin({ id, phase: "sending" });
      const { data, error, response } = await read(id);
      if (isOver()) return undefined;
      if (!data) {
        const missing = response?.status === 404 || response?.status === 422;
        const problem = missing ? "There is no such submission; it may have been deleted." : undefined;
        change({ id: undefined, phase: "idle", problem: problem ?? explain(error, response) });
        return undefined;
      }
      change({ state: data.state, phase: "live", request: data.request });
      void watch(id, {
        terminal: want(data.request?.tty),
        isLive: data.state !== "finished",
        isNew: false,
        since: Date.parse(response.headers.get("date") ?? ""),
      });
      return data.request;
    },
    [begin, change, want, watch],
  );

  const cancel = useCallback(async () => {
    if (!session.id) return;
    const path = { id: session.id };
    await api.POST("/v1/submissions/{id}/cancel", { params: { path } }).catch(() => {});
  }, [session.id]);

  // What it waits for is no event: it is asked for while it waits.
  useEffect(() => {
    const { id, phase, state } = session;
    if (!id || phase !== "live" || state === "finished") return;
    const mine = turn.current;
    const timer = setInterval(async () => {
      const { data } = await read(id);
      if (data && mine === turn.current) change({ waiting: data.waiting_for });
    }, ASK_AGAIN);
    return () => clearInterval(timer);
  }, [session.id, session.phase, session.state, change]);

  useEffect(() => () => leave.current(), []);
  return { session, send, open, cancel };
}

async function read(id: string) {
  return api
    .GET("/v1/submissions/{id}", { params: { path: { id } } })
    .catch(() => ({ data: undefined, error: undefined, response: undefined }));
}
