// The last hour, a point a minute.

import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { useEffect, useRef, useState } from "preact/hooks";
import { api, type MinuteStats, type Verdict } from "../api/client";
import { isDark, onTheme } from "../shared/theme";
import { milliseconds, verdictName } from "../shared/words";

/** Lines of one chart, at the most. */
const MOST_VERDICTS = 4;

const EVERY = 5_000;
const HEIGHT = 170;

/** Told apart also without colours: each has a dash of its own. */
const DASHES = [[], [6, 3], [2, 3], [10, 3, 2, 3]];

interface Line {
  name: string;
  values: (number | null)[];
}

interface ChartProps {
  title: string;
  at: number[];
  lines: Line[];
  show: (value: number) => string;
}

const count = (value: number) => (Number.isInteger(value) ? String(value) : value.toFixed(1));

const clock = (seconds: number) =>
  new Date(seconds * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });

export function Charts() {
  const [minutes, setMinutes] = useState<MinuteStats[]>([]);
  useEffect(() => {
    let isOver = false;
    let timer: ReturnType<typeof setTimeout>;
    const look = async () => {
      const { data } = await api.GET("/v1/stats/history").catch(() => ({ data: undefined }));
      if (isOver) return;
      if (data) setMinutes(data.items);
      timer = setTimeout(look, EVERY);
    };
    void look();
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, []);

  if (minutes.length === 0) return null;
  const at = minutes.map((minute) => Date.parse(minute.at) / 1000);
  const of = (name: string, value: (minute: MinuteStats) => number | null | undefined): Line => ({
    name,
    values: minutes.map((minute) => value(minute) ?? null),
  });
  // The last minute is not over.
  const seconds = (minute: MinuteStats) => {
    const begun = Date.parse(minute.at);
    return minute === minutes[minutes.length - 1]
      ? Math.min(60, Math.max(5, (Date.now() - begun) / 1000))
      : 60;
  };
  // Those that were seen, the most frequent first; of more than four lines nobody reads any, so the rest are one.
  const totals = new Map<Verdict, number>();
  for (const minute of minutes) {
    for (const [verdict, number] of Object.entries(minute.verdicts)) {
      totals.set(verdict as Verdict, (totals.get(verdict as Verdict) ?? 0) + number);
    }
  }
  const seen = [...totals.entries()].sort((one, other) => other[1] - one[1]).map(([verdict]) => verdict);
  const own = seen.length > MOST_VERDICTS ? seen.slice(0, MOST_VERDICTS - 1) : seen;
  const others = seen.slice(own.length);
  const number = (minute: MinuteStats, verdict: Verdict) => minute.verdicts[verdict] ?? 0;
  return (
    <>
      <Chart
        title="Waiting and running"
        at={at}
        lines={[of("Queued", (it) => it.most_queued), of("Running", (it) => it.most_running)]}
        show={count}
      />
      <Chart
        title="A second"
        at={at}
        lines={[
          of("Accepted", (it) => it.accepted / seconds(it)),
          of("Finished", (it) => it.finished / seconds(it)),
        ]}
        show={(value) => value.toFixed(1)}
      />
      <Chart
        title="From accept to finish"
        at={at}
        lines={[
          of("Half", (it) => it.latency?.p50_ms),
          of("90 %", (it) => it.latency?.p90_ms),
          of("99 %", (it) => it.latency?.p99_ms),
        ]}
        show={milliseconds}
      />
      <Chart
        title="Verdicts a minute"
        at={at}
        lines={[
          ...own.map((verdict) => of(verdictName(verdict), (it) => number(it, verdict))),
          ...(others.length > 0 ? [of("Others", (it) => others.reduce((sum, verdict) => sum + number(it, verdict), 0))] : []),
        ]}
        show={count}
      />
    </>
  );
}

function colours(): { axis: string; grid: string; lines: string[] } {
  const dark = isDark();
  return {
    axis: dark ? "#9aa5b8" : "#596377",
    grid: dark ? "#2a3140" : "#e3e7ee",
    lines: dark
      ? ["#7aa2ff", "#7fdc98", "#f2c26b", "#ff9c9c"]
      : ["#2450c4", "#14692f", "#9a6200", "#a3161f"],
  };
}

/** The points, with an empty one before them where they are few: a single one would have an axis of a day. */
function data(at: number[], lines: Line[]): uPlot.AlignedData {
  const first = (at[at.length - 1] ?? 0) - 600;
  if (at[0] !== undefined && at[0] <= first) return [at, ...lines.map((line) => line.values)];
  return [[first, ...at], ...lines.map((line) => [null, ...line.values])];
}

function Chart({ title, at, lines, show }: ChartProps) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const [theme, setTheme] = useState(isDark());
  useEffect(() => onTheme(() => setTheme(isDark())), []);
  const names = lines.map((line) => line.name).join();

  useEffect(() => {
    const { axis, grid, lines: strokes } = colours();
    const axes = { stroke: axis, grid: { stroke: grid, width: 1 }, ticks: { show: false } };
    const made = new uPlot(
      {
        width: place.current!.clientWidth,
        height: HEIGHT,
        cursor: { y: false },
        scales: {
          y: { range: (_, __, most) => [0, Math.max(1, most * 1.1)] },
        },
        axes: [{ ...axes, values: (_, all) => all.map(clock) }, { ...axes, size: 64, values: (_, all) => all.map(show) }],
        series: [
          { label: "At", value: (_: uPlot, value: number | null) => (value === null ? "–" : clock(value)) },
          ...lines.map((line, index) => ({
            label: line.name,
            stroke: strokes[index % strokes.length]!,
            width: 2,
            dash: DASHES[index % DASHES.length]!,
            points: { show: at.length < 3 },
            value: (_: uPlot, value: number | null) => (value === null ? "–" : show(value)),
          })),
        ],
      },
      data(at, lines),
      place.current!,
    );
    plot.current = made;
    const watch = new ResizeObserver(() => {
      made.setSize({ width: place.current!.clientWidth, height: HEIGHT });
    });
    watch.observe(place.current!);
    return () => {
      watch.disconnect();
      made.destroy();
    };
  }, [names, theme]);

  useEffect(() => {
    const points = data(at, lines);
    plot.current?.setData(points);
    if (plot.current?.cursor.idx == null) plot.current?.setLegend({ idx: points[0].length - 1 });
  }, [at, lines]);

  const latest = lines.map((line) => {
    const value = line.values[line.values.length - 1];
    return `${line.name} ${value === null || value === undefined ? "unknown" : show(value)}`;
  });
  return (
    <section class="card chart">
      <h2>{title}</h2>
      <div ref={place} role="img" aria-label={`${title}, now: ${latest.join(", ")}`} />
    </section>
  );
}
