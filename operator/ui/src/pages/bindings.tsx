// Role bindings: who has which role, and where.
import { t } from "../lib/i18n";
import { CreateLink } from "../ui/create-link";
import { FilterField, List, useList } from "../ui/list";
import { keyOf, nameColumn, statusColumn, summaryColumn } from "../ui/object-cells";
import { Page } from "../ui/page";
import { Empty } from "../ui/states";
import { Table } from "../ui/table";

export function BindingsPage() {
  const load = useList("RoleBinding");
  return (
    <Page
      title={t("nav.bindings")}
      lead={t("bindings.lead")}
      actions={
        <>
          <a class="button" href="/matrix">
            {t("nav.matrix")}
          </a>
          <CreateLink kind="RoleBinding" />
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
          <Empty title={t("bindings.none")} icon="people">
            <p>{t("bindings.noneHelp")}</p>
            <CreateLink kind="RoleBinding" />
          </Empty>
        }
      >
        {(page) => (
          <Table
            caption={t("nav.bindings")}
            rows={page.items}
            rowKey={keyOf}
            columns={[
              nameColumn(),
              summaryColumn(t("col.role"), "role"),
              summaryColumn(t("col.subjects"), "subjects"),
              summaryColumn(t("col.scope"), "scope"),
              { ...statusColumn(), minor: true },
            ]}
          />
        )}
      </List>
    </Page>
  );
}
