// Decisions per minute as stacked areas, with the same numbers in a table.
import { t, type Word } from "../lib/i18n";
import { hour } from "../lib/time";
import type { Minute } from "../lib/types";
import { Table } from "./table";

type Series = "permitted" | "denied" | "failed";
const SERIES: Series[] = ["permitted", "denied", "failed"];
const NAMES: Record<Series, Word> = {
  permitted: "outcome.permitted",
  denied: "outcome.denied",
  failed: "outcome.failed",
};
const W = 720;
const H = 190;
const LEFT = 44;
const BOTTOM = 22;
const TOP = 8;

/** The next number that looks like a mark of an axis. */
export function niceCeiling(value: number): number {
  if (value <= 4) return 4;
  const size = 10 ** Math.floor(Math.log10(value));
  return ([1, 2, 4, 5, 10].find((each) => each * size >= value) ?? 10) * size;
}

function areas(minutes: Minute[], top: number): { series: Series; path: string }[] {
  const x = (index: number) => LEFT + (index * (W - LEFT - 4)) / Math.max(1, minutes.length - 1);
  const y = (value: number) => TOP + (1 - value / top) * (H - TOP - BOTTOM);
  const floor = minutes.map(() => 0);
  return SERIES.map((series) => {
    const below = [...floor];
    minutes.forEach((minute, index) => {
      floor[index] = (floor[index] ?? 0) + minute[series];
    });
    const up = floor.map((value, index) => `${x(index).toFixed(1)},${y(value).toFixed(1)}`);
    const down = below.map((value, index) => `${x(index).toFixed(1)},${y(value).toFixed(1)}`).reverse();
    return { series, path: `M${[...up, ...down].join("L")}Z` };
  });
}

export function DecisionsChart({ minutes }: { minutes: Minute[] }) {
  const highest = Math.max(1, ...minutes.map((each) => each.permitted + each.denied + each.failed));
  const top = niceCeiling(highest);
  const marks = [0, top / 4, top / 2, (top * 3) / 4, top];
  const y = (value: number) => TOP + (1 - value / top) * (H - TOP - BOTTOM);
  const ticks = [0, Math.floor(minutes.length / 2), minutes.length - 1];
  return (
    <div class="pad rows">
      <svg class="chart" viewBox={`0 0 ${W} ${H}`} role="img" aria-label={t("home.chart")}>
        {marks.map((mark) => (
          <g key={mark}>
            <line class="grid" x1={LEFT} x2={W - 4} y1={y(mark)} y2={y(mark)} />
            <text x={LEFT - 8} y={y(mark) + 4} text-anchor="end">
              {mark.toLocaleString()}
            </text>
          </g>
        ))}
        {areas(minutes, top).map(({ series, path }) => (
          <path key={series} class={series} d={path} />
        ))}
        {ticks.map((index, place) => (
          <text
            key={place}
            x={LEFT + (index * (W - LEFT - 4)) / Math.max(1, minutes.length - 1)}
            y={H - 4}
            text-anchor={["start", "middle", "end"][place]}
          >
            {hour(minutes[index]?.time ?? "")}
          </text>
        ))}
      </svg>
      <div class="legend">
        {SERIES.map((series) => (
          <span key={series}>
            <svg viewBox="0 0 10 10" aria-hidden="true">
              <rect class={series} width="10" height="10" rx="2" />
            </svg>
            {t(NAMES[series])}
          </span>
        ))}
      </div>
      <details>
        <summary>{t("chart.table")}</summary>
        <Table
          caption={t("home.chart")}
          rows={minutes}
          rowKey={(row) => row.time}
          columns={[
            { title: t("col.time"), cell: (row) => hour(row.time), head: true },
            ...SERIES.map((series) => ({
              title: t(NAMES[series]),
              cell: (row: Minute) => row[series].toLocaleString(),
              number: true,
            })),
          ]}
        />
      </details>
    </div>
  );
}
