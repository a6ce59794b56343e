// Why was it so? Of a decision by its id, or of a request that nobody has sent.
import { useEffect, useState } from "preact/hooks";
import { post } from "../lib/api";
import { t } from "../lib/i18n";
import { useRead } from "../lib/load";
import { chosenNamespace, filter, place } from "../lib/router";
import type { AuditDetail, Explained } from "../lib/types";
import { useWork } from "../lib/work";
import { Button } from "../ui/button";
import { AreaField, SelectField, TextField } from "../ui/field";
import { Card, Page } from "../ui/page";
import { Empty, FailureNotice, Loaded } from "../ui/states";
import { Outcome } from "../ui/status";
import { Steps } from "../ui/steps";
import { RecordView } from "./audit-drawer";

/** Lines `Name: value` as pairs. */
export function headersOf(text: string): [string, string][] {
  return text
    .split("\n")
    .map((line) => /^\s*([^:\s]+)\s*:\s*(.*?)\s*$/.exec(line))
    .filter((each) => each !== null)
    .map((each) => [each[1] ?? "", each[2] ?? ""]);
}

function Known({ id }: { id: string }) {
  const path = `audit/${encodeURIComponent(id)}`;
  const load = useRead<AuditDetail>(path);
  return (
    <Loaded load={load}>
      {(detail) => (
        <>
          <h3 class="record-title">{detail.item.title}</h3>
          <RecordView detail={detail} />
        </>
      )}
    </Loaded>
  );
}

function ById() {
  const id = place.value.query.get("id") ?? "";
  const [typed, setTyped] = useState(id);
  useEffect(() => setTyped(id), [id]);
  const submit = (event: Event) => {
    event.preventDefault();
    filter({ id: typed.trim().toUpperCase() });
  };
  return (
    <Card title={t("explain.byId")}>
      <div class="rows">
        <form class="ask" onSubmit={submit}>
          <TextField label={t("explain.id")} value={typed} onInput={setTyped} mono help={t("explain.idHelp")} />
        </form>
        <div>
          <Button kind="primary" icon="explain" onClick={() => filter({ id: typed.trim().toUpperCase() })}>
            {t("nav.explain")}
          </Button>
        </div>
        {id ? (
          <Known key={id} id={id} />
        ) : (
          <Empty title={t("explain.noId")} icon="explain">
            <p>{t("explain.noIdHelp")}</p>
          </Empty>
        )}
      </div>
    </Card>
  );
}

function Hypothetical() {
  const [method, setMethod] = useState("GET");
  const [url, setUrl] = useState("");
  const [headers, setHeaders] = useState("");
  const question = useWork(() => {
    const namespace = chosenNamespace();
    const request = { method, url: url.trim(), headers: headersOf(headers) };
    return post<Explained>("explain", { request, ...(namespace ? { namespace } : {}) });
  });
  const { busy, error, result: answer } = question;
  return (
    <Card title={t("explain.hypothetical")}>
      <form class="rows" onSubmit={question.start}>
        <p class="muted small">{t("explain.hypotheticalHelp")}</p>
        <div class="row request">
          <SelectField
            label={t("explain.method")}
            value={method}
            onInput={setMethod}
            options={["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]}
          />
          <TextField
            label={t("explain.url")}
            value={url}
            onInput={setUrl}
            required
            mono
            placeholder="https://api.shop.example/orders"
          />
        </div>
        <AreaField
          label={t("explain.headers")}
          value={headers}
          onInput={setHeaders}
          placeholder="Authorization: Bearer …"
          help={t("explain.headersHelp")}
        />
        <div>
          <Button kind="primary" submit busy={busy} icon="explain">
            {t("explain.ask")}
          </Button>
        </div>
        {error && <FailureNotice error={error} />}
        {answer && (
          <div class="stack" role="status">
            <p class="verdict">
              <Outcome value={answer.outcome} /> {[answer.status, answer.reason].filter(Boolean).join(" ")}
            </p>
            <Steps steps={answer.steps} />
            <pre class="code">{answer.explanation}</pre>
          </div>
        )}
      </form>
    </Card>
  );
}

export const ExplainPage = () => (
  <Page title={t("nav.explain")} lead={t("explain.lead")}>
    <div class="split">
      <ById />
      <Hypothetical />
    </div>
  </Page>
);
