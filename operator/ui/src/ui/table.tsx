// Real tables, with a caption for those who do not see where they are.
import type { ComponentChildren } from "preact";
import { useId } from "preact/hooks";

export interface Column<T> {
  title: string;
  cell: (row: T) => ComponentChildren;
  /** Left out on narrow screens. */
  minor?: boolean;
  number?: boolean;
  /** The column that names the row. */
  head?: boolean;
}

interface Props<T> {
  caption: string;
  columns: Column<T>[];
  rows: T[];
  rowKey: (row: T) => string;
}

const classOf = <T,>(column: Column<T>): string | undefined =>
  [column.minor && "minor", column.number && "number"].filter(Boolean).join(" ") || undefined;

export function Table<T>({ caption, columns, rows, rowKey }: Props<T>) {
  const id = useId();
  return (
    <div class="table-scroll" role="region" aria-labelledby={id} tabIndex={0}>
      <table>
        <caption id={id} class="sr-only">
          {caption}
        </caption>
        <thead>
          <tr>
            {columns.map((each) => (
              <th key={each.title} scope="col" class={classOf(each)}>
                {each.title}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={rowKey(row)}>
              {columns.map((each) =>
                each.head ? (
                  <th key={each.title} scope="row" class={classOf(each)}>
                    {each.cell(row)}
                  </th>
                ) : (
                  <td key={each.title} class={classOf(each)}>
                    {each.cell(row)}
                  </td>
                ),
              )}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
