// Role bindings: subjects, roles and scopes.
import { t } from "../lib/i18n";
import { nameColumn, statusColumn, summaryColumn } from "../ui/object-cells";
import { ObjectTablePage } from "../ui/object-table";

export const BindingsPage = () => (
  <ObjectTablePage
    kind="RoleBinding"
    title={t("nav.bindings")}
    lead={t("bindings.lead")}
    actions={
      <a class="button" href="/matrix">
        {t("nav.matrix")}
      </a>
    }
    none={{ title: t("bindings.none"), icon: "people", help: t("bindings.noneHelp") }}
    columns={[
      nameColumn(),
      summaryColumn(t("col.role"), "role"),
      summaryColumn(t("col.subjects"), "subjects"),
      summaryColumn(t("col.scope"), "scope"),
      { ...statusColumn(), minor: true },
    ]}
  />
);
