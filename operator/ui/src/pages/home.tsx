// Home answers one question: is identity healthy? Every number leads to what it counts.
import { useState } from "preact/hooks";
import { query } from "../lib/api";
import { t, tn } from "../lib/i18n";
import { useRead } from "../lib/load";
import { address, chosenNamespace, explainPath, go, objectPath } from "../lib/router";
import { hour, relative, stamp } from "../lib/time";
import type { AuditItem, GatewayState, Home } from "../lib/types";
import { spreadOf } from "../ui/spread";
import { Button } from "../ui/button";
import { Chart } from "../ui/chart";
import { TextField } from "../ui/field";
import { Card, Page, Time } from "../ui/page";
import { Empty, Loaded } from "../ui/states";
import { Sign, Status, type Tone } from "../ui/status";

export const ObjectLink = ({ kind, namespace, name }: { kind: string; namespace: string; name: string }) => {
  const to = objectPath(kind, namespace, name);
  return (
    <>
      {to ? <a href={to}>{name}</a> : name}
      <span class="sub">
        {kind} · {namespace}
      </span>
    </>
  );
};

function Ask() {
  const [id, setId] = useState("");
  const submit = (event: Event) => {
    event.preventDefault();
    if (id.trim()) go(explainPath(id));
  };
  return (
    <Card title={t("home.ask")}>
      <form class="ask" onSubmit={submit}>
        <TextField label={t("explain.id")} value={id} onInput={setId} mono placeholder="01J9ZK3V…" />
        <Button kind="primary" icon="explain" submit>
          {t("nav.explain")}
        </Button>
      </form>
    </Card>
  );
}

const Tile = ({
  name,
  value,
  href,
  tone,
  sub,
}: {
  name: string;
  value: string;
  href: string;
  tone?: Tone;
  sub?: string;
}) => (
  <a class="tile" href={href}>
    <span class="name">{name}</span>
    <span class="big">{tone ? <Status tone={tone} word={value} /> : value}</span>
    <span class="sub">{sub}</span>
  </a>
);

function Tiles({ home }: { home: Home }) {
  const { permitted, denied, failed, since } = home.decisions;
  const { ready, wanted } = spreadOf(home.gateways);
  const from = t("home.since", { time: stamp(since).slice(11, 16) });
  const audit = (outcome: string) => address("/audit", { kind: "Decision", outcome });
  return (
    <div class="tiles">
      <Tile name={t("outcome.permitted")} value={permitted.toLocaleString()} href={audit("Permitted")} sub={from} />
      <Tile name={t("outcome.denied")} value={denied.toLocaleString()} href={audit("Denied")} sub={from} />
      <Tile
        name={t("outcome.failed")}
        value={failed.toLocaleString()}
        href={audit("Failed")}
        sub={from}
        {...(failed > 0 ? { tone: "warning" as const } : {})}
      />
      <Tile
        name={t("home.gateways")}
        value={`${ready}/${wanted}`}
        href="/topology"
        sub={t("home.inSync")}
        tone={ready === wanted ? "success" : "warning"}
      />
      <Tile
        name={t("home.failing")}
        value={String(home.failing.length)}
        href="#failing"
        sub={t("home.failingSub")}
        tone={home.failing.length ? "danger" : "success"}
      />
      <Tile
        name={t("home.expiring")}
        value={String(home.expiring.length)}
        href="#expiring"
        sub={t("home.expiringSub")}
        tone={home.expiring.length ? "warning" : "success"}
      />
    </div>
  );
}

function Reasons({ reasons }: { reasons: Home["reasons"] }) {
  if (!reasons.length) return <Empty title={t("home.noRefusals")} icon="ok" />;
  const most = Math.max(...reasons.map((each) => each.count));
  return (
    <div class="bars">
      {reasons.map(({ reason, count }) => (
        <a key={reason} href={address("/audit", { kind: "Decision", reason })}>
          <span>{reason}</span>
          <span>{count.toLocaleString()}</span>
          <svg viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
            <rect class="rail" width="100" height="6" />
            <rect width={(100 * count) / most} height="6" />
          </svg>
        </a>
      ))}
    </div>
  );
}

const Gateways = ({ gateways }: { gateways: GatewayState[] }) =>
  gateways.length === 0 ? (
    <Empty title={t("home.noGateways")}>
      <p>{t("home.noGatewaysHelp")}</p>
    </Empty>
  ) : (
    <ul class="list">
      {gateways.map((each) => (
        <li key={`${each.namespace}/${each.name}`}>
          <span>
            {each.name}
            <span class="sub">{[each.namespace, each.message].filter(Boolean).join(" · ")}</span>
          </span>
          <Status
            tone={each.ready === each.wanted ? "success" : "warning"}
            word={t("gateway.at", { ready: each.ready, wanted: each.wanted, n: each.generation })}
          />
        </li>
      ))}
    </ul>
  );

export const Changes = ({ items }: { items: AuditItem[] }) => (
  <ul class="list">
    {items.map((each) => (
      <li key={each.id}>
        <span>
          <Sign value={each.action ?? each.outcome ?? ""} />{" "}
          <a href={address("/audit", { id: each.id })}>{each.title}</a>
          <span class="sub">
            {each.who}
            {each.evidence && ` · ${each.evidence}`}
          </span>
        </span>
        <Time at={each.time}>
          <span class="muted small">{relative(each.time)}</span>
        </Time>
      </li>
    ))}
  </ul>
);

const Filled = ({ home }: { home: Home }) => (
  <div class="stack">
    <Tiles home={home} />
    <div class="split lead-left">
      <Card title={t("home.chart")} flush>
        {home.perMinute.length ? (
          <Chart
            label={t("home.chart")}
            series={[
              { kind: "permitted", name: t("outcome.permitted") },
              { kind: "denied", name: t("outcome.denied") },
              { kind: "failed", name: t("outcome.failed") },
            ]}
            points={home.perMinute.map(({ time, permitted, denied, failed }) => ({
              time,
              values: [permitted, denied, failed],
            }))}
            mark={hour}
          />
        ) : (
          <Empty title={t("home.noDecisions")}>
            <pre class="code">curl -i http://localhost:8000/orders</pre>
          </Empty>
        )}
      </Card>
      <div class="stack">
        <Ask />
        <Card title={t("home.reasons")}>
          <Reasons reasons={home.reasons} />
        </Card>
      </div>
    </div>
    <div class="split">
      <div id="failing">
        <Card title={t("home.failing")} flush>
          {home.failing.length === 0 ? (
            <Empty title={t("home.noneFailing")} icon="ok" />
          ) : (
            <ul class="list">
              {home.failing.map((each) => (
                <li key={`${each.kind}/${each.namespace}/${each.name}`}>
                  <span>
                    <ObjectLink {...each} />
                    <span class="sub">{each.message}</span>
                  </span>
                  <Status tone="danger" word={each.reason} />
                </li>
              ))}
            </ul>
          )}
        </Card>
      </div>
      <div id="expiring">
        <Card title={t("home.expiringTitle")} flush>
          {home.expiring.length === 0 ? (
            <Empty title={t("home.noneExpiring")} icon="ok" />
          ) : (
            <ul class="list">
              {home.expiring.map((each) => (
                <li key={`${each.kind}/${each.namespace}/${each.name}/${each.what}`}>
                  <span>
                    <ObjectLink {...each} />
                  </span>
                  <span>
                    {each.what}{" "}
                    <Time at={each.time}>
                      <span class="muted">{relative(each.time)}</span>
                    </Time>
                  </span>
                </li>
              ))}
            </ul>
          )}
        </Card>
      </div>
      <Card title={t("home.gateways")} flush>
        <Gateways gateways={home.gateways} />
      </Card>
      <Card title={t("home.changes")} flush actions={<a href={address("/audit", { kind: "Change" })}>{t("do.all")}</a>}>
        {home.changes.length ? <Changes items={home.changes} /> : <Empty title={t("home.noChanges")} />}
      </Card>
    </div>
  </div>
);

function verdict(home: Home): string {
  const { ready, wanted } = spreadOf(home.gateways);
  if (home.failing.length) return tn("home.bad", home.failing.length);
  if (ready < wanted) return t("home.behind", { ready, wanted });
  return wanted ? t("home.good") : t("home.idle");
}

export function HomePage() {
  const namespace = chosenNamespace();
  const path = `home${query({ namespace })}`;
  const load = useRead<Home>(path, 15);
  return (
    <Page
      title={t("nav.home")}
      lead={
        load.data && (
          <>
            {verdict(load.data)} {t("home.asOf", { time: stamp(load.data.asOf) })}
          </>
        )
      }
    >
      <Loaded load={load} rows={10}>
        {(home) => <Filled home={home} />}
      </Loaded>
    </Page>
  );
}
