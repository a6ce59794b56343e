// One record: its explanation in plain words, and everything that is stored of it.
import { t } from "../lib/i18n";
import { useRead } from "../lib/load";
import { objectPath } from "../lib/router";
import { stamp } from "../lib/time";
import type { AuditDetail, AuditItem } from "../lib/types";
import { Copy } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { Time } from "../ui/page";
import { Loaded } from "../ui/states";
import { Outcome } from "../ui/status";
import { Tree } from "../ui/tree";

/** The object that a record is about. */
export function objectOf(
  record: Record<string, unknown>,
): { kind: string; namespace: string; name: string } | undefined {
  for (const member of ["object", "policy"]) {
    const value = record[member];
    if (typeof value !== "object" || value === null) continue;
    // The policy that decided is in the namespace of the record.
    const { kind = "IdentityPolicy", namespace = record["namespace"], name } = value as Record<string, unknown>;
    if (typeof kind === "string" && typeof namespace === "string" && typeof name === "string" && name)
      return { kind, namespace, name };
  }
  return undefined;
}

export const RecordFacts = ({ item }: { item: AuditItem }) => (
  <dl class="facts">
    <dt>{t("audit.outcome")}</dt>
    <dd>
      <Outcome value={item.outcome ?? item.action ?? ""} /> {[item.status, item.reason].filter(Boolean).join(" ")}
    </dd>
    <dt>{t("col.time")}</dt>
    <dd>
      <Time at={item.time}>{stamp(item.time)}</Time>
    </dd>
    <dt>{t("col.subjects")}</dt>
    <dd>
      {item.who}
      {item.evidence && ` (${item.evidence})`}
    </dd>
    <dt>{t("col.namespace")}</dt>
    <dd>{item.namespace || "–"}</dd>
    <dt>{t("explain.id")}</dt>
    <dd>
      <code>{item.id}</code> <Copy text={item.id} label={t("copy.id")} />
    </dd>
  </dl>
);

export function RecordView({ detail }: { detail: AuditDetail }) {
  const object = objectOf(detail.record);
  const to = object && objectPath(object.kind, object.namespace, object.name);
  return (
    <div class="stack">
      <RecordFacts item={detail.item} />
      {to && object && (
        <p>
          {t("audit.object")}{" "}
          <a href={to}>
            {object.kind} {object.namespace}/{object.name}
          </a>
        </p>
      )}
      <h3>{t("audit.explanation")}</h3>
      <pre class="code" tabIndex={0}>
        {detail.explanation}
      </pre>
      <details>
        <summary>{t("audit.stored")}</summary>
        <Tree value={detail.record} />
      </details>
    </div>
  );
}

export function AuditDrawer({ id, onClose }: { id: string; onClose: () => void }) {
  const path = `audit/${encodeURIComponent(id)}`;
  const load = useRead<AuditDetail>(path);
  return (
    <Dialog title={load.data?.item.title ?? t("audit.record")} onClose={onClose} drawer>
      <Loaded load={load}>{(detail) => <RecordView detail={detail} />}</Loaded>
    </Dialog>
  );
}
