// A table whose cells are walked with the arrows: one stop for Tab, Enter chooses.
import { Fragment } from "preact";
import { useId, useRef, useState } from "preact/hooks";
import { t } from "../lib/i18n";
import { Icon } from "./icon";

export interface GridColumn {
  key: string;
  title: string;
  sub?: string;
  note?: string;
  href?: string;
}
export interface GridRow {
  key: string;
  title: string;
  group: string;
}

interface Props {
  caption: string;
  columns: GridColumn[];
  rows: GridRow[];
  allowed: (row: string, column: string) => boolean;
  chosen: string | undefined;
  onChoose: (row: string, column: string) => void;
}

/** The cell that a key leads to. */
export function step(
  key: string,
  row: number,
  column: number,
  rows: number,
  columns: number,
): [number, number] | undefined {
  switch (key) {
    case "ArrowUp":
      return [Math.max(0, row - 1), column];
    case "ArrowDown":
      return [Math.min(rows - 1, row + 1), column];
    case "ArrowLeft":
      return [row, Math.max(0, column - 1)];
    case "ArrowRight":
      return [row, Math.min(columns - 1, column + 1)];
    case "Home":
      return [row, 0];
    case "End":
      return [row, columns - 1];
    case "PageUp":
      return [0, column];
    case "PageDown":
      return [rows - 1, column];
    default:
      return undefined;
  }
}

export function Grid({ caption, columns, rows, allowed, chosen, onChoose }: Props) {
  const id = useId();
  const table = useRef<HTMLTableElement>(null);
  const [[row, column], setAt] = useState<[number, number]>([0, 0]);
  const here: [number, number] = [Math.min(row, rows.length - 1), Math.min(column, columns.length - 1)];
  const press = (event: KeyboardEvent, at: [number, number]) => {
    const next = step(event.key, at[0], at[1], rows.length, columns.length);
    if (!next) return;
    event.preventDefault();
    setAt(next);
    const cell = table.current?.querySelector(`[data-at="${next[0]} ${next[1]}"]`);
    if (cell instanceof HTMLElement) cell.focus();
  };
  return (
    <div class="table-scroll grid-scroll">
      <table ref={table} class="grid" aria-labelledby={id}>
        <caption id={id} class="sr-only">
          {caption}
        </caption>
        <thead>
          <tr>
            <th scope="col">{t("matrix.verb")}</th>
            {columns.map((each) => (
              <th key={each.key} scope="col">
                {each.href ? <a href={each.href}>{each.title}</a> : each.title}
                {each.sub && <span class="sub">{each.sub}</span>}
                {each.note && <span class="sub">{each.note}</span>}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((each, y) => (
            <Fragment key={each.key}>
              {rows[y - 1]?.group !== each.group && (
                <tr class="group-row">
                  <th scope="rowgroup" colSpan={columns.length + 1}>
                    {each.group}
                  </th>
                </tr>
              )}
              <tr>
                <th scope="row">{each.title}</th>
                {columns.map((one, x) => {
                  const may = allowed(each.key, one.key);
                  const current = here[0] === y && here[1] === x;
                  return (
                    <td key={one.key}>
                      <button
                        type="button"
                        class="cell"
                        data-at={`${y} ${x}`}
                        tabIndex={current ? 0 : -1}
                        aria-pressed={chosen === `${each.key}|${one.key}`}
                        aria-label={t(may ? "matrix.may" : "matrix.mayNot", {
                          who: one.title,
                          verb: each.title,
                          kind: each.group,
                        })}
                        onFocus={() => setAt([y, x])}
                        onKeyDown={(event) => press(event, [y, x])}
                        onClick={() => onChoose(each.key, one.key)}
                      >
                        {may ? (
                          <Icon name="ok" tone="success" />
                        ) : (
                          <span class="muted" aria-hidden="true">
                            –
                          </span>
                        )}
                      </button>
                    </td>
                  );
                })}
              </tr>
            </Fragment>
          ))}
        </tbody>
      </table>
    </div>
  );
}
