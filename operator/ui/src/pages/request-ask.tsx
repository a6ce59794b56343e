// Asking for a Credential. The browser makes the key pair; its public part is sent, and the private one stays here.
import { signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { get, Failure, post, query } from "../lib/api";
import { t } from "../lib/i18n";
import { forgetPair, hasCrypto, newPair } from "../lib/key-pairs";
import { useLoad } from "../lib/load";
import { labelsOf, requestPage } from "../lib/request";
import { go, place } from "../lib/router";
import { me } from "../lib/session";
import type { Page as Items, RequestView } from "../lib/types";
import { useWork } from "../lib/work";
import { Act, Button } from "../ui/button";
import { SelectField, TextField } from "../ui/field";
import { useMissing } from "../lib/permissions";
import { Page } from "../ui/page";
import { FailureNotice, Notice } from "../ui/states";
import { words } from "./credential-create";

/** Policies that are shown at once. */
const LIMIT = 24;
const DAYS = 90;

interface Form {
  namespace: string;
  name: string;
  purpose: string;
  policies: string;
  roles: string;
  labels: string;
  team: string;
  until: string;
}

/** The value of an input for dates, some days from now. */
function later(days: number): string {
  const at = new Date(Date.now() + days * 86_400_000);
  return new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

const empty = (): Form => ({
  namespace: "",
  name: "",
  purpose: "",
  policies: "",
  roles: "",
  labels: "",
  team: "",
  until: later(DAYS),
});

/** What is written outlives other pages and an ended session, and is gone with the tab. */
const form = signal<Form>(empty());
const change = (changes: Partial<Form>): void => {
  form.value = { ...form.value, ...changes };
};

const namespaceOf = ({ namespace }: Form): string =>
  namespace || place.value.query.get("ns") || (me.value?.namespaces[0] ?? "");

/** Sends a request. The key pair is kept before, and forgotten again only if the server surely took nothing. */
async function ask(wanted: Form): Promise<RequestView> {
  const labels = labelsOf(wanted.labels);
  if (typeof labels === "string") throw new Failure(400, "Invalid", t("ask.badLabel", { text: labels }), "labels");
  if (!hasCrypto()) throw new Error(t("take.noCrypto"));
  const recipient = await newPair().catch((cause: unknown) => {
    throw new Error(t("take.noStore", { cause: cause instanceof Error ? cause.message : String(cause) }));
  });
  try {
    return await post<RequestView>(`requests/${encodeURIComponent(namespaceOf(wanted))}`, {
      name: wanted.name.trim(),
      purpose: wanted.purpose.trim(),
      ...(wanted.team.trim() ? { team: wanted.team.trim() } : {}),
      ...(labels.length ? { labels } : {}),
      ...(words(wanted.roles).length ? { roles: words(wanted.roles) } : {}),
      access: { policies: words(wanted.policies) },
      expireTime: new Date(wanted.until).toISOString(),
      recipient,
    });
  } catch (cause) {
    if (cause instanceof Failure && cause.status >= 400 && cause.status < 500) {
      await forgetPair(JSON.stringify(recipient));
    }
    throw cause;
  }
}

/** Policies that the person may see. Who may see none writes their names. */
function Catalogue({ namespace }: { namespace: string }) {
  const { policies } = form.value;
  const chosen = words(policies);
  // The beginning of a name that is not finished searches.
  const [search, setSearch] = useState("");
  const last = /[\s,]$/.test(policies) ? "" : (chosen.at(-1) ?? "");
  useEffect(() => {
    const timer = setTimeout(() => setSearch(last), 250);
    return () => clearTimeout(timer);
  }, [last]);
  const load = useLoad<Items>(`${namespace}#${search}`, async (abort) => {
    const at = (text: string) => `objects/IdentityPolicy${query({ namespace, search: text, limit: LIMIT })}`;
    const found = await get<Items>(at(search), abort);
    return found.items.length ? found : get<Items>(at(""), abort);
  });
  const names = (load.data?.items ?? []).map((each) => each.name);
  if (!namespace || names.length === 0) return null;
  const toggle = (name: string, on: boolean) => {
    // What was written to find the policy is no name itself.
    const kept = chosen.filter((each) => each !== name && !(on && each === last && name.includes(each)));
    change({ policies: [...kept, ...(on ? [name] : [])].map((each) => `${each}, `).join("") });
  };
  return (
    <fieldset class="choices">
      <legend>{t("ask.catalogue")}</legend>
      <div class="chips">
        {names.map((name) => (
          <label class="check" key={name}>
            <input
              type="checkbox"
              checked={chosen.includes(name)}
              onChange={(event) => toggle(name, event.currentTarget.checked)}
            />
            {name}
          </label>
        ))}
      </div>
      {load.data?.next && <p class="small muted">{t("ask.more", { n: LIMIT })}</p>}
    </fieldset>
  );
}

/** The fields of the form. A label has a name, too, so the name of the request comes last. */
const SHOWN = ["labels", "roles", "policies", "access", "purpose", "expireTime", "team", "name"];

/** The field of the form that a failure is about: `spec.credential.roles[0]` is about the roles. */
function fieldOf(failure: Failure | undefined): string | undefined {
  const parts = (failure?.field ?? "").split(/[.[\]]+/);
  return SHOWN.find((each) => parts.includes(each));
}

function Fields({ failure }: { failure: Failure | undefined }) {
  const { name, purpose, policies, roles, labels, team, until } = form.value;
  const namespace = namespaceOf(form.value);
  const namespaces = me.value?.namespaces ?? [];
  const wrong = fieldOf(failure);
  const at = (field: string) => (field === wrong ? failure?.message : undefined);
  const set = (field: keyof Form) => (value: string) => change({ [field]: value });
  return (
    <>
      {namespaces.length > 0 ? (
        <SelectField
          label={t("col.namespace")}
          value={namespace}
          onInput={set("namespace")}
          options={[...new Set([...(namespace ? [namespace] : []), ...namespaces])]}
        />
      ) : (
        <TextField label={t("col.namespace")} value={namespace} onInput={set("namespace")} required mono />
      )}
      <TextField
        label={t("col.name")}
        value={name}
        onInput={set("name")}
        required
        mono
        error={at("name")}
        help={t("ask.nameHelp")}
        attributes={{ maxLength: 63, pattern: "[a-z0-9]([a-z0-9.\\-]*[a-z0-9])?" }}
      />
      <TextField
        label={t("ask.purpose")}
        value={purpose}
        onInput={set("purpose")}
        required
        error={at("purpose")}
        help={t("ask.purposeHelp")}
        attributes={{ maxLength: 1024 }}
      />
      <TextField
        label={t("ask.policies")}
        value={policies}
        onInput={set("policies")}
        required
        error={at("policies") ?? at("access")}
        help={t("ask.policiesHelp")}
      />
      <Catalogue namespace={namespace} />
      <TextField
        label={t("create.roles")}
        value={roles}
        onInput={set("roles")}
        error={at("roles")}
        help={t("create.rolesHelp")}
      />
      <TextField
        label={t("ask.labels")}
        value={labels}
        onInput={set("labels")}
        error={at("labels")}
        help={t("ask.labelsHelp")}
      />
      <div class="row">
        <TextField
          label={t("ask.until")}
          type="datetime-local"
          value={until}
          onInput={set("until")}
          required
          error={at("expireTime")}
        />
        <TextField label={t("col.team")} value={team} onInput={set("team")} error={at("team")} />
      </div>
    </>
  );
}

export function AskPage() {
  const { busy, error, start } = useWork(async () => {
    const made = await ask(form.value);
    form.value = empty();
    go(requestPage({ ...made, mine: true }));
  });
  const namespace = namespaceOf(form.value) || undefined;
  const lacking = useMissing("CredentialRequest", "create", namespace);
  const isShown = fieldOf(error) !== undefined;
  return (
    <Page title={t("ask.title")} above={[t("nav.myAccess"), "/my-access"]} lead={t("ask.lead")}>
      <form class="rows form" onSubmit={start}>
        {!hasCrypto() && (
          <Notice tone="warning">
            <p>{t("take.noCrypto")}</p>
          </Notice>
        )}
        <Fields failure={error} />
        {error && !isShown && (error.status === 501 ? <NotHere failure={error} /> : <FailureNotice error={error} />)}
        <div class="buttons">
          {lacking ? (
            <Act need={["CredentialRequest", "create"]} namespace={namespace} kind="primary">
              {t("ask.do")}
            </Act>
          ) : (
            <Button kind="primary" submit busy={busy}>
              {t("ask.do")}
            </Button>
          )}
        </div>
      </form>
    </Page>
  );
}

const NotHere = ({ failure }: { failure: Failure }) => (
  <Notice tone="note" title={t("asked.notHere")}>
    <p>{failure.message}</p>
  </Notice>
);
