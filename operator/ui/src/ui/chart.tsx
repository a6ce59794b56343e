// Numbers over time as stacked areas, with the same numbers in a table.
import { t } from "../lib/i18n";
import { language } from "../lib/settings";
import { Table } from "./table";

export interface Point {
  time: string;
  values: number[];
}
export interface Series {
  /** The class that has its colour. */
  kind: "permitted" | "denied" | "failed" | "prompt" | "completion";
  name: string;
}
interface Props {
  label: string;
  series: Series[];
  points: Point[];
  /** The time of a point as it is written at the axis. */
  mark: (time: string) => string;
}
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

function areas(series: Series[], points: Point[], top: number): { kind: string; path: string }[] {
  const x = (index: number) => LEFT + (index * (W - LEFT - 4)) / Math.max(1, points.length - 1);
  const y = (value: number) => TOP + (1 - value / top) * (H - TOP - BOTTOM);
  const floor = points.map(() => 0);
  return series.map(({ kind }, place) => {
    const below = [...floor];
    points.forEach((point, index) => {
      floor[index] = (floor[index] ?? 0) + (point.values[place] ?? 0);
    });
    const up = floor.map((value, index) => `${x(index).toFixed(1)},${y(value).toFixed(1)}`);
    const down = below.map((value, index) => `${x(index).toFixed(1)},${y(value).toFixed(1)}`).reverse();
    return { kind, path: `M${[...up, ...down].join("L")}Z` };
  });
}

/** Numbers that people read at an axis: `12`, `1.2K`, `3M`. */
const short = (value: number): string =>
  value < 10_000
    ? value.toLocaleString()
    : new Intl.NumberFormat(language.value, { notation: "compact", maximumFractionDigits: 1 }).format(value);

export function Chart({ label, series, points, mark: markOf }: Props) {
  const highest = Math.max(1, ...points.map((each) => each.values.reduce((sum, value) => sum + value, 0)));
  const top = niceCeiling(highest);
  const marks = [0, top / 4, top / 2, (top * 3) / 4, top];
  const y = (value: number) => TOP + (1 - value / top) * (H - TOP - BOTTOM);
  const ticks = [0, Math.floor(points.length / 2), points.length - 1];
  return (
    <div class="pad rows">
      <svg class="chart" viewBox={`0 0 ${W} ${H}`} role="img" aria-label={label}>
        {marks.map((mark) => (
          <g key={mark}>
            <line class="grid" x1={LEFT} x2={W - 4} y1={y(mark)} y2={y(mark)} />
            <text x={LEFT - 8} y={y(mark) + 4} text-anchor="end">
              {short(mark)}
            </text>
          </g>
        ))}
        {areas(series, points, top).map(({ kind, path }) => (
          <path key={kind} class={kind} d={path} />
        ))}
        {ticks.map((index, place) => (
          <text
            key={place}
            x={LEFT + (index * (W - LEFT - 4)) / Math.max(1, points.length - 1)}
            y={H - 4}
            text-anchor={["start", "middle", "end"][place]}
          >
            {markOf(points[index]?.time ?? "")}
          </text>
        ))}
      </svg>
      <div class="legend">
        {series.map(({ kind, name }) => (
          <span key={kind}>
            <svg viewBox="0 0 10 10" aria-hidden="true">
              <rect class={kind} width="10" height="10" rx="2" />
            </svg>
            {name}
          </span>
        ))}
      </div>
      <details>
        <summary>{t("chart.table")}</summary>
        <Table
          caption={label}
          rows={points}
          rowKey={(row) => row.time}
          columns={[
            { title: t("col.time"), cell: (row) => markOf(row.time), head: true },
            ...series.map(({ name }, place) => ({
              title: name,
              cell: (row: Point) => (row.values[place] ?? 0).toLocaleString(),
              number: true,
            })),
          ]}
        />
      </details>
    </div>
  );
}
