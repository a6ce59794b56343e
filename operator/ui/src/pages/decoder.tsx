// A token, read. Decoding happens here in the browser; verifying asks the server, and the page says so.
import { useState } from "preact/hooks";
import { get, post } from "../lib/api";
import { t, type Word } from "../lib/i18n";
import { takeApart, TIMES, type Parts, type Problem } from "../lib/jwt";
import { useLoad } from "../lib/load";
import { relative, stamp } from "../lib/time";
import type { Decoded, Page as Items } from "../lib/types";
import { useWork } from "../lib/work";
import { Button } from "../ui/button";
import { AreaField, SelectField } from "../ui/field";
import { Card, Page } from "../ui/page";
import { Empty, FailureNotice, Notice } from "../ui/states";
import { Table } from "../ui/table";
import { Steps } from "../ui/steps";

const PROBLEMS: Record<Problem, Word> = {
  parts: "decoder.parts",
  encrypted: "decoder.encrypted",
  header: "decoder.header",
  claims: "decoder.claims",
};
const CLAIMS: Record<string, Word> = {
  iss: "claim.iss",
  sub: "claim.sub",
  aud: "claim.aud",
  exp: "claim.exp",
  nbf: "claim.nbf",
  iat: "claim.iat",
  jti: "claim.jti",
  azp: "claim.azp",
  scope: "claim.scope",
  cnf: "claim.cnf",
  alg: "claim.alg",
  kid: "claim.kid",
  typ: "claim.typ",
};

function shown(name: string, value: unknown): string {
  if (TIMES.includes(name) && typeof value === "number") {
    return `${value} · ${stamp(value * 1000)} · ${stamp(value * 1000, true)} UTC · ${relative(value * 1000)}`;
  }
  return typeof value === "string" ? value : JSON.stringify(value);
}

const Members = ({ title, members }: { title: string; members: Record<string, unknown> }) => (
  <Card title={title} flush>
    <Table
      caption={title}
      rows={Object.entries(members)}
      rowKey={([name]) => name}
      columns={[
        { title: t("decoder.member"), head: true, cell: ([name]) => <code>{name}</code> },
        { title: t("decoder.value"), cell: ([name, value]) => <span class="mono claim">{shown(name, value)}</span> },
        {
          title: t("decoder.meaning"),
          minor: true,
          cell: ([name]) => {
            const word = CLAIMS[name];
            return <span class="muted">{word ? t(word) : ""}</span>;
          },
        },
      ]}
    />
  </Card>
);

function Verify({ token }: { token: string }) {
  const load = useLoad<Items>("objects/IdentityPolicy?limit=200", (signal) =>
    get("objects/IdentityPolicy?limit=200", signal),
  );
  const [policy, setPolicy] = useState("");
  const policies = load.data?.items ?? [];
  const verification = useWork(() => {
    const [namespace, name] = policy.split("/");
    return post<Decoded>("decode", { token, ...(name ? { policy: { namespace, name } } : {}) });
  });
  const { busy, error, result: answer } = verification;
  return (
    <Card title={t("decoder.verify")}>
      <form class="rows" onSubmit={verification.start}>
        <p class="muted small">{t("decoder.verifyHelp")}</p>
        <SelectField
          label={t("decoder.policy")}
          value={policy}
          onInput={setPolicy}
          options={[["", t("decoder.noPolicy")], ...policies.map((each) => `${each.namespace}/${each.name}`)]}
        />
        <div>
          <Button kind="primary" submit busy={busy} icon="shield">
            {t("decoder.do")}
          </Button>
        </div>
        {error && <FailureNotice error={error} />}
        {answer && (
          <div role="status">
            <Steps steps={answer.checks} />
          </div>
        )}
      </form>
    </Card>
  );
}

function Result({ token, parts }: { token: string; parts: Parts }) {
  const alg = parts.header["alg"];
  const exp = parts.claims["exp"];
  return (
    <div class="stack">
      {typeof alg === "string" && alg.toLowerCase() === "none" && (
        <Notice tone="danger" title={t("decoder.none")} alert>
          <p>{t("decoder.noneText")}</p>
        </Notice>
      )}
      {typeof exp === "number" && exp * 1000 < Date.now() && (
        <Notice tone="warning">
          <p>{t("decoder.expired", { span: relative(exp * 1000) })}</p>
        </Notice>
      )}
      <Members title={t("decoder.theHeader")} members={parts.header} />
      <Members title={t("decoder.theClaims")} members={parts.claims} />
      <Verify key={token} token={token} />
    </div>
  );
}

export function DecoderPage() {
  const [token, setToken] = useState("");
  const clean = token.trim().replace(/^Bearer\s+/i, "");
  const read = clean ? takeApart(clean) : undefined;
  return (
    <Page title={t("nav.decoder")} lead={t("decoder.lead")}>
      <div class="split">
        <Card title={t("decoder.token")}>
          <div class="rows">
            <AreaField
              label={t("decoder.paste")}
              value={token}
              onInput={setToken}
              rows={9}
              error={typeof read === "string" ? t(PROBLEMS[read]) : undefined}
              help={t("decoder.local")}
            />
            <div>
              <Button onClick={() => setToken("")} disabled={!token}>
                {t("decoder.clear")}
              </Button>
            </div>
          </div>
        </Card>
        {typeof read === "object" ? (
          <Result token={clean} parts={read} />
        ) : (
          <div class="card">
            <Empty title={t("decoder.empty")} icon="token">
              <pre class="code">idm token mint --user ana</pre>
            </Empty>
          </div>
        )}
      </div>
    </Page>
  );
}
