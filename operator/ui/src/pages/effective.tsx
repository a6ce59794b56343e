// The settings of a policy that are in force, each with where it comes from, as a table; everything else as it is told.
import { t } from "../lib/i18n";
import { Card } from "../ui/page";
import { Table } from "../ui/table";
import { Tree } from "../ui/tree";

interface Setting {
  field: string;
  value: unknown;
  source: unknown;
}

const isSetting = (value: unknown): value is Setting =>
  typeof value === "object" && value !== null && typeof (value as Setting).field === "string" && "source" in value;

/** `{kind: "Baseline", of: "shop/all"}` as `Baseline shop/all`. */
const sourceText = (source: unknown): string =>
  typeof source === "object" && source !== null ? Object.values(source).map(String).join(" ") : String(source ?? "");

export function EffectiveView({ value }: { value: unknown }) {
  const all = typeof value === "object" && value !== null ? (value as Record<string, unknown>) : { value };
  const settings = Array.isArray(all["settings"]) ? all["settings"].filter(isSetting) : [];
  const rest = Object.fromEntries(
    Object.entries(all).filter(
      ([name, each]) => (name !== "settings" || settings.length === 0) && !(Array.isArray(each) && each.length === 0),
    ),
  );
  return (
    <div class="stack">
      <p class="muted">{t("effective.lead")}</p>
      {settings.length > 0 && (
        <Card title={t("effective.settings")} flush>
          <Table
            caption={t("effective.settings")}
            rows={settings}
            rowKey={(each) => `${each.field} ${sourceText(each.source)}`}
            columns={[
              { title: t("effective.field"), head: true, cell: (each) => <code>{each.field}</code> },
              {
                title: t("decoder.value"),
                cell: (each) =>
                  typeof each.value === "object" && each.value !== null ? (
                    <Tree value={each.value} />
                  ) : (
                    <code>{String(each.value)}</code>
                  ),
              },
              { title: t("effective.source"), cell: (each) => sourceText(each.source) },
            ]}
          />
        </Card>
      )}
      <Card title={t("overview.facts")}>
        <Tree value={rest} />
      </Card>
    </div>
  );
}
