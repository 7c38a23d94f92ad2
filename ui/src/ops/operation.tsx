// The operator's page: how much waits, how fast it goes, where it runs, what became of it.

import { useEffect, useState } from "preact/hooks";
import { api, type Ready, type Stats, type Worker } from "../api/client";
import { Header } from "../shared/header";
import { milliseconds, sentence } from "../shared/words";
import { Charts } from "./charts";
import { Recent } from "./recent";
import { Workers } from "./workers";

/** How often the figures are read. */
const EVERY = 2_000;

interface Figures {
  stats?: Stats;
  ready?: Ready;
  workers?: Worker[];
  trouble?: string;
}

export function Operation() {
  const [figures, setFigures] = useState<Figures>({});
  useEffect(() => {
    let isOver = false;
    let timer: ReturnType<typeof setTimeout>;
    const look = async () => {
      const next = await read();
      if (isOver) return;
      setFigures((before) => ({ ...before, ...next }));
      timer = setTimeout(look, EVERY);
    };
    void look();
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, []);

  const { stats, ready, workers, trouble } = figures;
  const degraded = Object.entries(ready?.parts ?? {}).filter(([, part]) => part.status !== "ok");
  return (
    <>
      <Header page="ops" />
      <main class="ops">
        <h1 class="hidden">Operation</h1>
        {trouble && (
          <p class="card problem" role="alert">
            {trouble}
          </p>
        )}
        {degraded.map(([name, part]) => (
          <p class="card problem" role="alert" key={name}>
            <strong>{name}</strong>: {part.reason}
          </p>
        ))}
        <Figure name="Queued" value={stats?.submissions.queued} />
        <Figure
          name="Running"
          value={stats && stats.submissions.running + stats.submissions.dispatching}
        />
        <Figure name="Finished a second" value={stats && (stats.finished_last_minute / 60).toFixed(1)} />
        <Figure name="Half end within" value={stats?.latency && milliseconds(stats.latency.p50_ms)} />
        <Figure name="90 % within" value={stats?.latency && milliseconds(stats.latency.p90_ms)} />
        <Figure name="99 % within" value={stats?.latency && milliseconds(stats.latency.p99_ms)} />
        <Charts />
        <Workers workers={workers} />
        <Recent />
      </main>
    </>
  );
}

function Figure({ name, value }: { name: string; value: string | number | undefined }) {
  return (
    <div class="card figure">
      <span class="hint">{name}</span>
      <strong>{value ?? "–"}</strong>
    </div>
  );
}

async function read(): Promise<Figures> {
  try {
    const [stats, ready, workers] = await Promise.all([
      api.GET("/v1/stats"),
      api.GET("/healthz/ready"),
      api.GET("/v1/workers"),
    ]);
    const problem = stats.error ?? ready.error ?? workers.error;
    return {
      ...(stats.data && { stats: stats.data }),
      ...(ready.data && { ready: ready.data }),
      ...(workers.data && { workers: workers.data.items }),
      trouble: problem ? sentence(problem.detail) : "",
    };
  } catch {
    return { trouble: "The daemon does not answer; what stands here is what it said last." };
  }
}
