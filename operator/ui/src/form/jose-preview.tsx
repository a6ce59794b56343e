// The objects that a draft would make of a sample, asked again a moment after each change. The server makes them with
// the real keys and sends neither signatures nor ciphertexts.
import { useContext, useEffect, useState } from "preact/hooks";
import { call, type Failure } from "../lib/api";
import { t } from "../lib/i18n";
import { asFailure } from "../lib/load";
import type { Preview } from "../lib/types";
import { Button } from "../ui/button";
import { AreaField, SelectField, TextField } from "../ui/field";
import { FailureNotice, Notice } from "../ui/states";
import { Status } from "../ui/status";
import { Tree } from "../ui/tree";
import { Editing } from "./context";

/** A change is tried after so many milliseconds of rest. */
const REST = 600;

interface Sample {
  method: string;
  url: string;
  username: string;
  roles: string;
  claims: string;
  body: string;
}

const FIRST: Sample = {
  method: "GET",
  url: "http://localhost/",
  username: "ana",
  roles: "",
  claims: '{"iss": "https://idp.example", "sub": "ana"}',
  body: "",
};

/** An object of claims, or undefined for text that is none. */
export function claimsOf(text: string): Record<string, unknown> | undefined {
  if (!text.trim()) return {};
  try {
    const value: unknown = JSON.parse(text);
    const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
    return isObject ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

function Objects({ preview }: { preview: Preview }) {
  return (
    <div class="stack">
      {preview.steps.map((step) => (
        <section key={step.name} class="rows">
          <h4>
            {step.name} → <code>{step.to}</code>{" "}
            {!step.refused && <span class="muted small">{t("jose.bytes", { n: step.bytes.toLocaleString() })}</span>}
          </h4>
          {step.refused ? (
            <Notice tone="warning" title={t("jose.refused")}>
              <pre class="code" tabIndex={0}>
                {step.refused}
              </pre>
            </Notice>
          ) : (
            <>
              {step.encrypted !== undefined && (
                <>
                  <Status tone="success" icon="lock" word={t("jose.encrypted")} />
                  <Tree value={step.encrypted} />
                </>
              )}
              {step.signed !== undefined && (
                <>
                  <Status tone="success" icon="shield" word={t("jose.signed")} />
                  <Tree value={step.signed} />
                </>
              )}
              <h5>{t("jose.content")}</h5>
              {step.payload === undefined ? (
                <p class="muted">{t("jose.detached")}</p>
              ) : typeof step.payload === "object" ? (
                <Tree value={step.payload} />
              ) : (
                <pre class="code" tabIndex={0}>
                  {String(step.payload)}
                </pre>
              )}
            </>
          )}
        </section>
      ))}
      {preview.leftOut.length > 0 && <p class="muted">{t("jose.leftOut", { names: preview.leftOut.join(", ") })}</p>}
    </div>
  );
}

export function JosePreview() {
  const { text, subject } = useContext(Editing);
  const [sample, setSample] = useState(FIRST);
  const [on, setOn] = useState(false);
  const [state, setState] = useState<{ preview?: Preview; error?: Failure }>({});
  const claims = claimsOf(sample.claims);
  const { namespace, name, version } = subject;
  const { method, url, username, roles, body } = sample;
  const draft = { kind: "IdentityPolicy", namespace, name, yaml: text, ...(version ? { version } : {}) };
  const asked = {
    draft,
    request: { method, url, headers: [] },
    body,
    caller: { username, claims: claims ?? {}, roles: roles.split(/[\s,]+/).filter(Boolean) },
  };
  const key = JSON.stringify(asked);
  useEffect(() => {
    if (!on || claims === undefined) return;
    const abort = new AbortController();
    const timer = setTimeout(() => {
      call<Preview>("POST", "preview", asked, abort.signal).then(
        (preview) => setState({ preview }),
        (cause) => {
          if (!abort.signal.aborted) setState({ error: asFailure(cause) });
        },
      );
    }, REST);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [key, on]);
  const field = (name: keyof Sample) => ({
    value: sample[name],
    onInput: (value: string) => setSample({ ...sample, [name]: value }),
  });
  return (
    <section class="rows preview" aria-label={t("jose.preview")}>
      <h3>{t("jose.preview")}</h3>
      <p class="muted small">{t("jose.previewHelp")}</p>
      <div class="row request">
        <SelectField
          label={t("explain.method")}
          options={["GET", "POST", "PUT", "PATCH", "DELETE"]}
          {...field("method")}
        />
        <TextField label={t("explain.url")} mono {...field("url")} />
      </div>
      <div class="row">
        <TextField label={t("jose.caller")} mono {...field("username")} />
        <TextField label={t("create.roles")} {...field("roles")} help={t("create.rolesHelp")} />
      </div>
      <AreaField
        label={t("jose.sampleClaims")}
        {...field("claims")}
        rows={3}
        error={claims === undefined ? t("jose.noObject") : undefined}
      />
      {method !== "GET" && <AreaField label={t("jose.body")} {...field("body")} rows={3} />}
      <div>
        <Button kind="primary" icon={on ? "pause" : "play"} pressed={on} onClick={() => setOn(!on)}>
          {t(on ? "jose.stop" : "jose.start")}
        </Button>
      </div>
      <div role="status">
        {on && state.preview && <Objects preview={state.preview} />}
        {on && state.error && <FailureNotice error={state.error} />}
      </div>
    </section>
  );
}
