// The audit: decisions and changes, filtered by the address, with a live tail.
import { useState } from "preact/hooks";
import { get, query } from "../lib/api";
import { t, tn } from "../lib/i18n";
import { useRead } from "../lib/load";
import { filter, place } from "../lib/router";
import { clock } from "../lib/settings";
import { useTail, type TailState } from "../lib/tail";
import type { AuditItem, AuditPage as Records } from "../lib/types";
import { useWork } from "../lib/work";
import { Button } from "../ui/button";
import { SelectField } from "../ui/field";
import { FilterField } from "../ui/list";
import { Page } from "../ui/page";
import { Empty, FailureNotice, Loaded, Notice } from "../ui/states";
import { Status } from "../ui/status";
import { AuditDrawer } from "./audit-drawer";
import { AuditTable } from "./audit-table";

const NAMES = ["kind", "outcome", "reason", "objectKind", "name", "who", "text"] as const;
const SPANS: Record<string, number> = { "15m": 900, "1h": 3_600, "24h": 86_400, "7d": 604_800 };

/** The filters of the address, as the API takes them. The span is kept as a span, so that a link stays true. */
function filters(now: number): Record<string, string | undefined> {
  const from = place.value.query;
  const span = SPANS[from.get("span") ?? ""];
  return {
    ...Object.fromEntries(NAMES.map((name) => [name, from.get(name) ?? undefined])),
    namespace: from.get("ns") ?? undefined,
    since: span ? new Date(Math.floor(now / 60_000) * 60_000 - span * 1000).toISOString() : undefined,
  };
}

function Filters() {
  const value = (name: string) => place.value.query.get(name) ?? "";
  const kind = value("kind");
  const outcomes = kind === "Change" ? ["Created", "Updated", "Deleted"] : ["Permitted", "Denied", "Failed"];
  return (
    <div class="tools-row" role="group" aria-label={t("list.search")}>
      <FilterField name="text" label={t("audit.text")} grow />
      <SelectField
        label={t("audit.kind")}
        value={kind}
        onInput={(next) => filter({ kind: next, outcome: "", reason: "" })}
        options={[
          ["", t("audit.both")],
          ["Decision", t("audit.decisions")],
          ["Change", t("audit.changes")],
        ]}
      />
      <SelectField
        label={t("audit.outcome")}
        value={value("outcome")}
        onInput={(outcome) => filter({ outcome })}
        options={[["", t("audit.any")], ...outcomes]}
      />
      <FilterField name="reason" label={t("audit.reason")} />
      <FilterField name="who" label={t("col.subjects")} />
      <SelectField
        label={t("audit.since")}
        value={value("span")}
        onInput={(span) => filter({ span })}
        options={[["", t("audit.always")], ...Object.keys(SPANS)]}
      />
    </div>
  );
}

function TailLine({ tail, paused, release }: { tail: TailState; paused: boolean; release: () => void }) {
  return (
    <div class="tail-line">
      {tail.state === "live" ? (
        <Status tone="success" word={t(tail.items.length || tail.waiting.length ? "tail.live" : "tail.quiet")} />
      ) : (
        <Status tone="warning" word={t(tail.state === "lost" ? "tail.lost" : "tail.connecting")} />
      )}
      {tail.waiting.length > 0 && (
        <Button kind="primary" icon="play" onClick={release}>
          {tn("tail.new", tail.waiting.length)}
        </Button>
      )}
      {tail.skipped > 0 && <Status tone="warning" word={tn("tail.skipped", tail.skipped)} />}
      {tail.resynced && <Status tone="warning" word={t("tail.resync")} />}
      <span class="sr-only" role="status">
        {paused && tail.waiting.length % 25 === 1 ? tn("tail.new", tail.waiting.length) : ""}
      </span>
    </div>
  );
}

export function AuditPage() {
  const [now] = useState(Date.now);
  const asked = filters(now);
  const path = `audit${query({ ...asked, limit: 100 })}`;
  const load = useRead<Records>(path);
  const [older, setOlder] = useState<{ path: string; items: AuditItem[]; next?: string | undefined }>({
    path,
    items: [],
  });
  const live = place.value.query.get("live") === "1";
  const [paused, setPaused] = useState(false);
  const [tail, release] = useTail(`audit/stream${query(asked)}`, live, paused);
  const shown = place.value.query.get("id") ?? "";
  const more = older.path === path ? older : { path, items: [] as AuditItem[], next: undefined };
  const next = more.items.length ? more.next : load.data?.next;
  const loadOlder = useWork(async () => {
    const page = await get<Records>(`audit${query({ ...asked, limit: 100, before: next })}`);
    setOlder({ path, items: [...more.items, ...page.items], next: page.next });
  });
  const resume = () => {
    setPaused(false);
    release();
  };
  const scroll = (event: Event) => {
    const pane = event.currentTarget;
    if (live && !paused && pane instanceof HTMLElement && pane.scrollTop > 40) setPaused(true);
  };
  const known = new Set(tail.items.map((each) => each.id));
  return (
    <Page
      title={t("nav.audit")}
      lead={t("audit.lead")}
      actions={
        <>
          <Button
            onClick={() => {
              clock.value = clock.value === "utc" ? "local" : "utc";
            }}
            label={t("audit.clock")}
          >
            {t(clock.value === "utc" ? "audit.utc" : "audit.local")}
          </Button>
          <a class="button" href={`/api/v1/audit/export${query({ ...asked, format: "csv" })}`} download="audit.csv">
            CSV
          </a>
          <a class="button" href={`/api/v1/audit/export${query({ ...asked, format: "jsonl" })}`} download="audit.jsonl">
            JSONL
          </a>
          {live && (
            <Button icon={paused ? "play" : "pause"} onClick={() => (paused ? resume() : setPaused(true))}>
              {t(paused ? "tail.resume" : "tail.pause")}
            </Button>
          )}
          <Button
            icon="play"
            pressed={live}
            onClick={() => {
              setPaused(false);
              filter({ live: live ? "" : "1" });
            }}
          >
            {t("tail.on")}
          </Button>
        </>
      }
    >
      <Filters />
      {live && <TailLine tail={tail} paused={paused} release={resume} />}
      <Loaded load={load}>
        {(page) => {
          const items = [...tail.items, ...[...page.items, ...more.items].filter((each) => !known.has(each.id))];
          if (items.length === 0) {
            return (
              <div class="card">
                <Empty title={t("audit.none")} icon="audit">
                  <p>{t("audit.noneHelp")}</p>
                  <pre class="code">curl -i http://localhost:8000/orders</pre>
                </Empty>
              </div>
            );
          }
          return (
            <>
              {!page.complete && (
                <Notice tone="warning">
                  <p>{t("audit.incomplete")}</p>
                </Notice>
              )}
              <div class={live ? "pane" : undefined} onScroll={scroll}>
                <AuditTable items={items} onOpen={(id) => filter({ id })} />
              </div>
              <div class="pager">
                <span>{tn("audit.shown", items.length)}</span>
                {next && (
                  <Button busy={loadOlder.busy} onClick={loadOlder.start}>
                    {t("audit.older")}
                  </Button>
                )}
              </div>
              {loadOlder.error && <FailureNotice error={loadOlder.error} retry={loadOlder.start} />}
            </>
          );
        }}
      </Loaded>
      {shown && <AuditDrawer id={shown} onClose={() => filter({ id: "" })} />}
    </Page>
  );
}
