// A page with the objects of a kind as a table, their filters, and what to do where there are none.
import type { ComponentChildren } from "preact";
import { t } from "../lib/i18n";
import type { Item, Kind } from "../lib/types";
import { CreateLink } from "./create-link";
import type { IconName } from "./icon";
import { FilterField, List, useList } from "./list";
import { keyOf } from "./object-cells";
import { Page } from "./page";
import { Empty } from "./states";
import { type Column, Table } from "./table";

interface Props {
  kind: Kind;
  title: string;
  lead: string;
  /** Beside the button that makes an object. */
  actions?: ComponentChildren;
  none: { title: string; icon: IconName; help: string };
  columns: Column<Item>[];
}

export function ObjectTablePage({ kind, title, lead, actions, none, columns }: Props) {
  const load = useList(kind);
  const create = <CreateLink kind={kind} />;
  return (
    <Page
      title={title}
      lead={lead}
      actions={
        <>
          {actions}
          {create}
        </>
      }
    >
      <List
        load={load}
        filters={
          <>
            <FilterField name="search" label={t("list.search")} grow />
            <FilterField name="team" label={t("col.team")} />
          </>
        }
        empty={
          <Empty title={none.title} icon={none.icon}>
            <p>{none.help}</p>
            {create}
          </Empty>
        }
      >
        {(page) => <Table caption={title} rows={page.items} rowKey={keyOf} columns={columns} />}
      </List>
    </Page>
  );
}
