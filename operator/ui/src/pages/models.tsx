// Language models: tokens and money by caller and model over time, refused calls, and the quotas in use.
import { useState } from "preact/hooks";
import { query } from "../lib/api";
import { t, tn } from "../lib/i18n";
import { useRead } from "../lib/load";
import { money } from "../lib/money";
import { address, chosenNamespace, explainPath, filter, linkTo, place } from "../lib/router";
import { hour, relative, stamp } from "../lib/time";
import type { ModelCaller, ModelQuota, ModelRefusal, ModelUse } from "../lib/types";
import { Button } from "../ui/button";
import { Chart } from "../ui/chart";
import { SelectField } from "../ui/field";
import { Card, Page, Time } from "../ui/page";
import { Empty, Loaded, Notice } from "../ui/states";
import { Table } from "../ui/table";

const SPANS: Record<string, number> = { "1h": 3_600, "24h": 86_400, "7d": 604_800, "30d": 2_592_000 };
const USUAL = "24h";
const LIMIT = 25;

const number = (value: number): string => value.toLocaleString();
const language = (): string => document.documentElement.lang || "en";

/** The steps of a caller as a line; the numbers are in the table. */
function Spark({ steps }: { steps: number[] }) {
  const most = Math.max(1, ...steps);
  const at = (value: number, index: number) =>
    `${((index * 96) / Math.max(1, steps.length - 1)).toFixed(1)},${(18 - (value * 16) / most).toFixed(1)}`;
  return (
    <svg class="spark" viewBox="0 0 96 20" width="96" height="20" aria-hidden="true">
      <polyline points={steps.map(at).join(" ")} />
    </svg>
  );
}

const Callers = ({ items }: { items: ModelCaller[] }) => (
  <Table
    caption={t("models.callers")}
    rows={items}
    rowKey={(each) => `${each.namespace}/${each.who}/${each.model}`}
    columns={[
      {
        title: t("models.caller"),
        head: true,
        cell: ({ who, namespace, isCredential }) => (
          <>
            {isCredential ? <a href={linkTo({ kind: "Credential", namespace, name: who })}>{who}</a> : who || "–"}
            <span class="sub">{namespace}</span>
          </>
        ),
      },
      { title: t("models.model"), cell: (each) => each.model || <span class="muted">–</span> },
      { title: t("models.overTime"), minor: true, cell: (each) => <Spark steps={each.steps} /> },
      { title: t("models.calls"), number: true, minor: true, cell: (each) => number(each.calls) },
      { title: t("models.prompt"), number: true, cell: (each) => number(each.promptTokens) },
      { title: t("models.completion"), number: true, cell: (each) => number(each.completionTokens) },
      {
        title: t("models.cost"),
        number: true,
        cell: (each) => (each.cost.length ? money(each.cost, language()) : <span class="muted">–</span>),
      },
      {
        title: t("models.estimated"),
        number: true,
        minor: true,
        cell: (each) => (each.estimatedCalls ? number(each.estimatedCalls) : <span class="muted">–</span>),
      },
    ]}
  />
);

const Refused = ({ items }: { items: ModelRefusal[] }) =>
  items.length === 0 ? (
    <Empty title={t("home.noRefusals")} icon="ok" />
  ) : (
    <ul class="list">
      {items.map((each) => (
        <li key={`${each.namespace}/${each.policy}/${each.reason}/${each.rule}`}>
          <span>
            <a href={explainPath(each.lastId)}>{[each.reason, each.rule].filter(Boolean).join(" · ")}</a>
            <span class="sub">
              {each.namespace}/{each.policy} ·{" "}
              <Time at={each.lastTime}>{t("models.last", { span: relative(each.lastTime) })}</Time>
            </span>
          </span>
          <a href={address("/audit", { kind: "Decision", reason: each.reason })}>{tn("models.times", each.count)}</a>
        </li>
      ))}
    </ul>
  );

function Quota({ quota }: { quota: ModelQuota }) {
  const { policy, namespace, who, tokens, perSeconds, used, endTime, complete } = quota;
  const share = Math.min(100, (100 * used) / tokens);
  return (
    <li class="quota">
      <span>
        {who || <span class="muted">{t("models.nobody")}</span>}
        <span class="sub">
          <a class="inline" href={linkTo({ kind: "IdentityPolicy", namespace, name: policy })}>
            {policy}
          </a>{" "}
          · {t("models.per", { tokens: number(tokens), span: spanText(perSeconds) })}
        </span>
      </span>
      <span class="nowrap">
        {t(complete ? "models.used" : "models.usedAtLeast", { used: number(used), percent: Math.floor(share) })}
        <span class="sub">
          <Time at={endTime}>{t("models.ends", { span: relative(endTime) })}</Time>
        </span>
      </span>
      <svg viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
        <rect class="rail" width="100" height="6" />
        <rect class={share >= 100 ? "full" : undefined} width={share} height="6" />
      </svg>
    </li>
  );
}

/** `60` as `1 min`: the largest unit that divides it. */
export function spanText(seconds: number): string {
  const units: [number, string][] = [
    [86_400, "day"],
    [3_600, "hour"],
    [60, "minute"],
  ];
  const [size, unit] = units.find(([each]) => seconds % each === 0) ?? [1, "second"];
  return new Intl.NumberFormat(language(), {
    style: "unit",
    unit,
    unitDisplay: "long",
  }).format(seconds / size);
}

function Filled({ use, more }: { use: ModelUse; more: (after: string) => void }) {
  const { total, refused, quotas } = use;
  if (total.calls === 0 && refused.length === 0 && !quotas?.length) {
    return (
      <div class="card">
        <Empty title={t("models.none")} icon="chat">
          <p>{t("models.noneHelp")}</p>
          <a href={address("/audit", { kind: "Decision" })}>{t("nav.audit")}</a>
        </Empty>
      </div>
    );
  }
  const long = use.stepSeconds >= 3600 && use.steps.length * use.stepSeconds > 90_000;
  const mark = long ? (time: string) => stamp(time).slice(5, 16) : hour;
  return (
    <div class="stack">
      {!use.complete && (
        <Notice tone="warning">
          <p>{t("models.partial", { time: stamp(use.countedFrom) })}</p>
        </Notice>
      )}
      <Card title={t("models.chart")} flush>
        <Chart
          label={t("models.chart")}
          series={[
            { kind: "prompt", name: t("models.prompt") },
            { kind: "completion", name: t("models.completion") },
          ]}
          points={use.steps.map((each) => ({ time: each.time, values: [each.promptTokens, each.completionTokens] }))}
          mark={mark}
        />
      </Card>
      <Card title={t("models.callers")} flush>
        {use.callers.length === 0 ? <Empty title={t("models.noTokens")} /> : <Callers items={use.callers} />}
        <div class="pager pad">
          <span>{tn("models.pairs", use.pairs)}</span>
          {use.next && <Button onClick={() => more(use.next ?? "")}>{t("list.next")}</Button>}
        </div>
      </Card>
      <div class="split">
        <Card title={t("models.refused")} flush>
          <Refused items={refused} />
        </Card>
        <Card title={t("models.quotas")} flush>
          {quotas === undefined ? (
            <Empty title={t("models.quotasUnknown")} />
          ) : quotas.length === 0 ? (
            <Empty title={t("models.noQuotas")}>
              <p>{t("models.noQuotasHelp")}</p>
            </Empty>
          ) : (
            <>
              <ul class="list">
                {quotas.map((each) => (
                  <Quota key={`${each.policy}/${each.who}/${each.perSeconds}`} quota={each} />
                ))}
              </ul>
              <p class="pad small muted">{t("models.quotasHelp")}</p>
            </>
          )}
        </Card>
      </div>
    </div>
  );
}

export function ModelsPage() {
  const [end, setEnd] = useState(Date.now);
  const span = place.value.query.get("span") ?? USUAL;
  const seconds = SPANS[span] ?? SPANS[USUAL] ?? 86_400;
  const path = `llm${query({
    namespace: chosenNamespace(),
    since: new Date(end - seconds * 1000).toISOString(),
    until: new Date(end).toISOString(),
    limit: LIMIT,
    after: place.value.query.get("after") ?? undefined,
  })}`;
  const load = useRead<ModelUse>(path);
  const { total } = load.data ?? {};
  return (
    <Page
      title={t("nav.models")}
      lead={
        total?.calls
          ? t(total.cost.length ? "models.sumCost" : "models.sum", {
              calls: number(total.calls),
              tokens: number(total.promptTokens + total.completionTokens),
              cost: money(total.cost, language()),
            })
          : t("models.lead")
      }
      actions={
        <Button
          icon="rotate"
          onClick={() => {
            filter({ after: "" });
            setEnd(Date.now());
          }}
        >
          {t("models.again")}
        </Button>
      }
    >
      <div class="tools-row">
        <SelectField
          label={t("audit.since")}
          value={span}
          onInput={(next) => filter({ span: next, after: "" })}
          options={Object.keys(SPANS)}
        />
        {place.value.query.get("after") && (
          <Button icon="left" onClick={() => filter({ after: "" })}>
            {t("models.first")}
          </Button>
        )}
      </div>
      <Loaded load={load} rows={10}>
        {(use) => <Filled use={use} more={(after) => filter({ after })} />}
      </Loaded>
    </Page>
  );
}
