// The page of one object, the same tabs for every kind.
import { useState } from "preact/hooks";
import { objectAt, query } from "../lib/api";
import { t, type Word } from "../lib/i18n";
import { useRead, type Load } from "../lib/load";
import { draftKey, draftOf } from "../lib/drafts";
import { address, chosenNamespace, listPath, place } from "../lib/router";
import type { AuditPage, Detail, Kind } from "../lib/types";
import { Page } from "../ui/page";
import { Empty, Loaded, Notice } from "../ui/states";
import { ReadyStatus } from "../ui/status";
import { AuditTable } from "./audit-table";
import { AuditDrawer } from "./audit-drawer";
import { EditTab } from "./edit";
import { EffectiveView } from "./effective";
import { Overview } from "./overview";

const TABS = ["overview", "form", "yaml", "effective", "decisions", "history"] as const;
type Tab = (typeof TABS)[number];
const WORDS: Record<Tab, Word> = {
  overview: "tab.overview",
  form: "tab.form",
  yaml: "tab.yaml",
  effective: "tab.effective",
  decisions: "tab.decisions",
  history: "tab.history",
};
const ABOVE: Record<Kind, Word> = {
  IdentityPolicy: "nav.policies",
  Credential: "nav.credentials",
  Federation: "nav.federations",
  RoleBinding: "nav.bindings",
};

function Tabs({ tabs, now, path, edited }: { tabs: Tab[]; now: Tab; path: string; edited: boolean }) {
  const ns = chosenNamespace();
  return (
    <nav class="tabs" aria-label={t("tab.all")}>
      {tabs.map((each) => (
        <a
          key={each}
          href={address(path, { ns, tab: each === "overview" ? undefined : each })}
          aria-current={each === now ? "page" : undefined}
        >
          {t(WORDS[each])}
          {edited && each === "yaml" && <span class="edited">{t("edit.edited")}</span>}
        </a>
      ))}
    </nav>
  );
}

const Effective = ({ object }: { object: Detail }) =>
  object.effective === undefined || object.effective === null ? (
    <Empty title={t("effective.none")} icon="note">
      <p>{t("effective.noneHelp")}</p>
    </Empty>
  ) : (
    <EffectiveView value={object.effective} />
  );

function Records({ object, kind }: { object: Detail; kind: "Decision" | "Change" }) {
  const { namespace, kind: objectKind, name } = object;
  const path = `audit${query({ kind, namespace, objectKind, name, limit: 50 })}`;
  const load = useRead<AuditPage>(path, 30);
  const [shown, setShown] = useState<string | undefined>();
  return (
    <>
      <Loaded load={load}>
        {(page) =>
          page.items.length === 0 ? (
            <div class="card">
              <Empty title={t(kind === "Decision" ? "object.noDecisions" : "object.noChanges")} icon="audit" />
            </div>
          ) : (
            <AuditTable items={page.items} onOpen={setShown} />
          )
        }
      </Loaded>
      {shown && <AuditDrawer id={shown} onClose={() => setShown(undefined)} />}
    </>
  );
}

const Managed = ({ object }: { object: Detail }) =>
  object.managedBy ? (
    <Notice tone="note" title={t("managed.title", { tool: object.managedBy.tool, owner: object.managedBy.owner })}>
      <p>
        {t("managed.text")} {object.managedBy.path && <code>{object.managedBy.path}</code>}
      </p>
    </Notice>
  ) : null;

export function ObjectPage({ kind, namespace, name }: { kind: Kind; namespace: string; name: string }) {
  const at = objectAt(kind, namespace, name);
  const load: Load<Detail> = useRead<Detail>(at, 20);
  const tabs = TABS.filter((each) => kind === "IdentityPolicy" || each !== "effective");
  const now = tabs.find((each) => each === place.value.query.get("tab")) ?? "overview";
  const draft = draftOf(draftKey(kind, namespace, name));
  return (
    <Page
      title={name}
      above={[t(ABOVE[kind]), listPath(kind)]}
      lead={
        <>
          {namespace}
          {load.data?.team && ` · ${t("col.team")} ${load.data.team}`}
          {load.data && (
            <>
              {" "}
              · <ReadyStatus ready={load.data.ready} suspended={load.data.summary["suspended"] === "true"} />
            </>
          )}
        </>
      }
    >
      <Tabs tabs={tabs} now={now} path={place.value.path} edited={!!draft && draft.text !== draft.base} />
      <Loaded load={load}>
        {(object) => (
          <>
            <Managed object={object} />
            {now === "overview" && <Overview object={object} kind={kind} reload={load.reload} />}
            {(now === "form" || now === "yaml") && (
              <EditTab kind={kind} object={object} way={now} reload={load.reload} />
            )}
            {now === "effective" && <Effective object={object} />}
            {now === "decisions" && <Records object={object} kind="Decision" />}
            {now === "history" && <Records object={object} kind="Change" />}
          </>
        )}
      </Loaded>
    </Page>
  );
}
