// Cells that all lists of objects have.
import { t } from "../lib/i18n";
import { linkTo } from "../lib/router";
import type { Item } from "../lib/types";
import type { Column } from "./table";
import { Icon } from "./icon";
import { ReadyStatus } from "./status";

export const Managed = ({ item }: { item: Item }) =>
  item.managedBy ? (
    <span class="chip" title={item.managedBy.path}>
      <Icon name="lock" />
      {item.managedBy.tool}
    </span>
  ) : null;

export const nameColumn = (): Column<Item> => ({
  title: t("col.name"),
  head: true,
  cell: (item) => (
    <>
      <a href={linkTo(item)}>{item.name}</a> <Managed item={item} />
      <span class="sub">
        {item.namespace}
        {item.team && ` · ${t("col.team")} ${item.team}`}
      </span>
    </>
  ),
});

export const statusColumn = (): Column<Item> => ({
  title: t("col.status"),
  cell: (item) => <ReadyStatus ready={item.ready} suspended={item.summary["suspended"] === "true"} />,
});

export const summaryColumn = (title: string, name: string, minor = false): Column<Item> => ({
  title,
  minor,
  cell: (item) => item.summary[name] ?? <span class="muted">–</span>,
});

export const keyOf = (item: Item): string => `${item.namespace}/${item.name}`;
