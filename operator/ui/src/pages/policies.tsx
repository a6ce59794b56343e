// The list of policies.
import { t } from "../lib/i18n";
import { nameColumn, statusColumn, summaryColumn } from "../ui/object-cells";
import { ObjectTablePage } from "../ui/object-table";

export const PoliciesPage = () => (
  <ObjectTablePage
    kind="IdentityPolicy"
    title={t("nav.policies")}
    lead={t("policies.lead")}
    none={{ title: t("policies.none"), icon: "shield", help: t("policies.noneHelp") }}
    columns={[
      nameColumn(),
      statusColumn(),
      summaryColumn(t("col.targets"), "targets"),
      summaryColumn(t("col.methods"), "methods", true),
    ]}
  />
);
