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
import { follow } from "../api/follow";
import type { Screen } from "./screen";

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
  /** Why it could not be sent, read or followed. */
  problem: string | undefined;
  isConnected: boolean;
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

  const watch = useCallback(
    (id: string) => {
      const mine = turn.current;
      const isOver = () => mine !== turn.current;
      let timer: ReturnType<typeof setTimeout>;
      let stop = () => {};
      leave.current = () => {
        stop();
        clearTimeout(timer);
      };
      const begin = () => {
        attempt.current = 0;
        screen().clear();
        stop = follow(id, {
          event,
          connected: (isConnected) => {
            if (!isOver()) change({ isConnected });
          },
          lost: () => void look(),
        });
      };
      const event = (event: SubmissionEvent) => {
        if (isOver()) return;
        if (event.attempt > attempt.current) {
          if (attempt.current > 0) {
            screen().clear();
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
            screen().write(event.type, bytes(event.data ?? "", event.encoding ?? "utf8"));
            break;
          case "test":
            setSession((before) => ({
              ...before,
              runs: { ...before.runs, [event.test!]: event.run! },
            }));
            break;
          case "finished":
            screen().end();
            void look();
        }
      };
      // After the end, and where it cannot be followed: then it is followed anew, from the first event.
      const look = async () => {
        const { data, error, response } = await read(id);
        if (isOver()) return;
        if (data?.state === "finished") {
          change({ phase: "finished", state: "finished", submission: data, isConnected: true });
        } else if (response?.status === 404) {
          change({ phase: "finished", problem: explain(error, response) });
        } else {
          change({ isConnected: false });
          timer = setTimeout(begin, ASK_AGAIN);
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
      const sent = await api
        .POST("/v1/submissions", { body: request })
        .catch(() => ({ data: undefined, error: undefined, response: undefined }));
      if (isOver()) return;
      if (!sent.data) {
        change({ phase: "idle", problem: explain(sent.error, sent.response) });
        return;
      }
      const { id, state } = sent.data;
      change({ id, state, phase: "live" });
      history.pushState(null, "", `#${id}`);
      watch(id);
    },
    [begin, change, watch],
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
      watch(id);
      return data.request;
    },
    [begin, change, watch],
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
