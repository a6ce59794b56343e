// Permissions as a grid: by role, or by binding. The grid is a table, so it reads the same without eyes.
import { useState } from "preact/hooks";
import { t } from "../lib/i18n";
import { useRead } from "../lib/load";
import { linkTo } from "../lib/router";
import type { Matrix } from "../lib/types";
import { Button } from "../ui/button";
import { TextField } from "../ui/field";
import { Grid, type GridColumn } from "../ui/grid";
import { Card, Page } from "../ui/page";
import { Empty, Loaded } from "../ui/states";

type Cell = { kind: string; verb: string; column: string };
/** More columns than this cannot be compared by eye; the search narrows them. */
const MOST = 12;

const bindingHref = (binding: string): string => {
  const [namespace = "", name = ""] = binding.split("/");
  return linkTo({ kind: "RoleBinding", namespace, name });
};

function Holders({ matrix, cell }: { matrix: Matrix; cell: Cell }) {
  const bindings = matrix.bindings.filter((each) => each.cells[cell.kind]?.includes(cell.verb));
  return (
    <Card title={t("matrix.who", { verb: cell.verb, kind: cell.kind })}>
      <div role="status">
        {bindings.length === 0 ? (
          <p class="muted">{t("matrix.nobody")}</p>
        ) : (
          <ul class="list">
            {bindings.map((each) => (
              <li key={each.binding}>
                <span>
                  <a href={bindingHref(each.binding)}>{each.binding}</a>
                  <span class="sub">
                    {each.role} · {each.scope}
                  </span>
                </span>
                <span>{each.subjects.join(", ")}</span>
              </li>
            ))}
          </ul>
        )}
      </div>
    </Card>
  );
}

function Filled({ matrix }: { matrix: Matrix }) {
  const [by, setBy] = useState<"role" | "binding">("role");
  const [search, setSearch] = useState("");
  const [cell, setCell] = useState<Cell | undefined>();
  const all: (GridColumn & { cells: Record<string, string[]> })[] =
    by === "role"
      ? matrix.roles.map((each) => ({
          key: `${each.role} ${each.scope}`,
          title: each.role,
          sub: each.scope,
          cells: each.cells,
        }))
      : matrix.bindings.map((each) => ({
          key: each.binding,
          title: each.binding,
          sub: `${each.role} · ${each.scope}`,
          note: each.subjects.join(", "),
          href: bindingHref(each.binding),
          cells: each.cells,
        }));
  const fitting = all.filter((each) =>
    [each.title, each.sub, each.note].join(" ").toLowerCase().includes(search.toLowerCase()),
  );
  const columns = fitting.slice(0, MOST);
  const rows = matrix.kinds.flatMap((kind) =>
    matrix.verbs
      .filter((verb) => matrix.roles.some((each) => each.cells[kind]?.includes(verb)))
      .map((verb) => ({ group: kind, key: `${kind} ${verb}`, title: verb })),
  );
  const split = (key: string) => {
    const [kind = "", verb = ""] = key.split(" ");
    return { kind, verb };
  };
  return (
    <div class="stack">
      <div class="tools-row">
        <Button pressed={by === "role"} onClick={() => setBy("role")}>
          {t("matrix.byRole")}
        </Button>
        <Button pressed={by === "binding"} onClick={() => setBy("binding")}>
          {t("matrix.byBinding")}
        </Button>
        <TextField
          label={t("matrix.search")}
          type="search"
          value={search}
          onInput={setSearch}
          attributes={{ id: "search" }}
        />
        {fitting.length > MOST && <span class="muted">{t("matrix.more", { n: MOST, all: fitting.length })}</span>}
      </div>
      {columns.length === 0 ? (
        <div class="card">
          <Empty title={t(all.length ? "list.noMatch" : "bindings.none")} icon="people">
            {!all.length && <a href="/bindings">{t("nav.bindings")}</a>}
          </Empty>
        </div>
      ) : (
        <Grid
          caption={t("nav.matrix")}
          columns={columns}
          rows={rows}
          allowed={(row, column) =>
            columns.find((each) => each.key === column)?.cells[split(row).kind]?.includes(split(row).verb) ?? false
          }
          chosen={cell && `${cell.kind} ${cell.verb}|${cell.column}`}
          onChoose={(row, column) => setCell({ ...split(row), column })}
        />
      )}
      <p class="muted small">{t("matrix.keys")}</p>
      {cell && <Holders matrix={matrix} cell={cell} />}
    </div>
  );
}

export function MatrixPage() {
  const load = useRead<Matrix>("matrix", 60);
  return (
    <Page
      title={t("nav.matrix")}
      lead={t("matrix.lead")}
      actions={
        <a class="button" href="/bindings">
          {t("nav.bindings")}
        </a>
      }
    >
      <Loaded load={load} rows={12}>
        {(matrix) => <Filled matrix={matrix} />}
      </Loaded>
    </Page>
  );
}
