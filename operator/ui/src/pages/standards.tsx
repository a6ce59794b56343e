// The methods of authentication: how ripe each is, who uses it, and the YAML to begin with.
import { get, query } from "../lib/api";
import { t, tn, type Word } from "../lib/i18n";
import { useLoad } from "../lib/load";
import { address, chosenNamespace, go, linkTo } from "../lib/router";
import { METHOD_NAMES, starter } from "../lib/starters";
import type { Item, Page as Items } from "../lib/types";
import { Act, Copy } from "../ui/button";
import { newPath } from "../ui/create-link";
import { Page } from "../ui/page";
import { Loaded } from "../ui/states";
import { Status, type Tone } from "../ui/status";

type Maturity = "recommended" | "accepted" | "legacy" | "open";
const MATURITY: Record<string, Maturity> = {
  jwt: "recommended",
  signIn: "recommended",
  mtls: "recommended",
  apiKey: "accepted",
  introspection: "accepted",
  basic: "legacy",
  digest: "legacy",
  base64: "legacy",
  anonymous: "open",
};
const TONES: Record<Maturity, Tone> = { recommended: "success", accepted: "accent", legacy: "warning", open: "muted" };
const NAMES: Record<string, string> = {
  jwt: "JWT",
  signIn: "OIDC · SAML",
  mtls: "mTLS",
  apiKey: "API key",
  introspection: "OAuth 2 introspection",
  basic: "HTTP Basic",
  digest: "HTTP Digest",
  base64: "Base64",
  anonymous: "Anonymous",
};

/** Policies by each method that they have. */
export function usersOf(items: Item[], method: string): Item[] {
  return items.filter((each) => (each.summary["methods"] ?? "").split(/[\s,]+/).includes(method));
}

const MOST = 2000;

/** Every policy, page by page; more than `MOST` are not counted. */
async function allPolicies(
  namespace: string | undefined,
  signal: AbortSignal,
): Promise<{ items: Item[]; complete: boolean }> {
  const items: Item[] = [];
  let after: string | undefined;
  do {
    const page: Items = await get(`objects/IdentityPolicy${query({ namespace, limit: 200, after })}`, signal);
    items.push(...page.items);
    after = page.next;
  } while (after && items.length < MOST);
  return { items, complete: !after };
}

function Method({ method, items }: { method: string; items: Item[] }) {
  const users = usersOf(items, method);
  const maturity = MATURITY[method] ?? "accepted";
  const yaml = starter("IdentityPolicy", method);
  const namespace = chosenNamespace();
  return (
    <li class="card method">
      <div class="federation-head">
        <h2>{NAMES[method]}</h2>
        <Status tone={TONES[maturity]} word={t(`maturity.${maturity}` as Word)} />
      </div>
      <p class="small muted">{t(`method.${method}` as Word)}</p>
      <p>
        {users.length === 0 ? <span class="muted">{t("standards.unused")}</span> : tn("standards.used", users.length)}
        {users.slice(0, 3).map((each) => (
          <>
            {" "}
            <a class="chip" href={linkTo(each)}>
              {each.name}
            </a>
          </>
        ))}
        {users.length > 3 && (
          <>
            {" "}
            <a class="chip" href={address("/policies", { ns: namespace })}>
              +{users.length - 3}
            </a>
          </>
        )}
      </p>
      <details open={users.length === 0 && maturity === "recommended"}>
        <summary>{t("standards.yaml")}</summary>
        <pre class="code" tabIndex={0}>
          {yaml}
        </pre>
      </details>
      <div class="actions">
        <Act
          need={["IdentityPolicy", "create"]}
          namespace={namespace}
          icon="plus"
          label={t("standards.createOf", { name: NAMES[method] ?? method })}
          onClick={() => go(newPath("IdentityPolicy", namespace, method))}
        >
          {t("standards.create")}
        </Act>
        <Copy text={yaml} label={t("standards.copyOf", { name: NAMES[method] ?? method })} />
      </div>
    </li>
  );
}

export function StandardsPage() {
  const namespace = chosenNamespace();
  const load = useLoad(`standards ${namespace ?? ""}`, (signal) => allPolicies(namespace, signal), 60);
  return (
    <Page title={t("nav.standards")} lead={t("standards.lead")}>
      <Loaded load={load} rows={9}>
        {({ items, complete }) => (
          <>
            {!complete && <p class="muted">{t("standards.partly", { n: items.length })}</p>}
            <ul class="cards methods">
              {METHOD_NAMES.map((each) => (
                <Method key={each} method={each} items={items} />
              ))}
            </ul>
          </>
        )}
      </Loaded>
    </Page>
  );
}
