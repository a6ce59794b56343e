// Records as a table; a row opens the drawer.
import { t } from "../lib/i18n";
import { stamp } from "../lib/time";
import type { AuditItem } from "../lib/types";
import { Time } from "../ui/page";
import { Outcome } from "../ui/status";
import { Table } from "../ui/table";

export const AuditTable = ({ items, onOpen }: { items: AuditItem[]; onOpen: (id: string) => void }) => (
  <Table
    caption={t("audit.records")}
    rows={items}
    rowKey={(each) => each.id}
    columns={[
      {
        title: t("col.time"),
        cell: (each) => (
          <Time at={each.time}>
            <span class="nowrap">{stamp(each.time)}</span>
          </Time>
        ),
      },
      { title: t("audit.outcome"), cell: (each) => <Outcome value={each.outcome ?? each.action ?? ""} /> },
      {
        title: t("audit.what"),
        head: true,
        cell: (each) => (
          <button type="button" class="link" onClick={() => onOpen(each.id)}>
            {each.title}
          </button>
        ),
      },
      {
        title: t("audit.reason"),
        minor: true,
        cell: (each) => [each.status, each.reason].filter(Boolean).join(" ") || "–",
      },
      {
        title: t("col.subjects"),
        cell: (each) => (
          <>
            {each.who}
            {each.evidence && <span class="sub">{each.evidence}</span>}
          </>
        ),
      },
      { title: t("col.namespace"), minor: true, cell: (each) => each.namespace },
    ]}
  />
);
