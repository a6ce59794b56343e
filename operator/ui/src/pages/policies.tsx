// The list of policies.
import { t } from "../lib/i18n";
import { List, FilterField, useList } from "../ui/list";
import { keyOf, nameColumn, statusColumn, summaryColumn } from "../ui/object-cells";
import { Page } from "../ui/page";
import { Empty } from "../ui/states";
import { Table } from "../ui/table";
import { CreateLink } from "../ui/create-link";

export function PoliciesPage() {
  const load = useList("IdentityPolicy");
  return (
    <Page title={t("nav.policies")} lead={t("policies.lead")} actions={<CreateLink kind="IdentityPolicy" />}>
      <List
        load={load}
        filters={
          <>
            <FilterField name="search" label={t("list.search")} grow />
            <FilterField name="team" label={t("col.team")} />
          </>
        }
        empty={
          <Empty title={t("policies.none")} icon="shield">
            <p>{t("policies.noneHelp")}</p>
            <CreateLink kind="IdentityPolicy" />
          </Empty>
        }
      >
        {(page) => (
          <Table
            caption={t("nav.policies")}
            rows={page.items}
            rowKey={keyOf}
            columns={[
              nameColumn(),
              statusColumn(),
              summaryColumn(t("col.targets"), "targets"),
              summaryColumn(t("col.methods"), "methods", true),
            ]}
          />
        )}
      </List>
    </Page>
  );
}
