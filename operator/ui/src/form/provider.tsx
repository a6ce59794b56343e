// The document of a provider, pasted, fills in a Federation. The server reads it as a gateway would; nothing is
// fetched.
import { useContext, useEffect, useState } from "preact/hooks";
import { post } from "../lib/api";
import { t } from "../lib/i18n";
import type { Provider } from "../lib/types";
import { useWork } from "../lib/work";
import { Button } from "../ui/button";
import { AreaField, SelectField } from "../ui/field";
import { FailureNotice } from "../ui/states";
import { Steps } from "../ui/steps";
import { Editing } from "./context";
import { dataOf, removeAt, setAt } from "./document";

/** The types of Federations: one has exactly one of them. */
const TYPES = ["oidc", "saml", "ldap", "database", "rest"];

/** The text with what the document says; another type's fields are dropped, others of this one stay. */
export function filled(text: string, { kind, fields }: Provider): string {
  const spec = dataOf(text)["spec"];
  const there = typeof spec === "object" && spec !== null ? Object.keys(spec) : [];
  let next = text;
  for (const other of TYPES.filter((each) => each !== kind && there.includes(each))) {
    next = removeAt(next, ["spec", other]);
  }
  for (const [name, value] of Object.entries(fields)) next = setAt(next, ["spec", kind, name], value);
  return next;
}

export function ProviderDocument() {
  const { text, change } = useContext(Editing);
  const [document, setDocument] = useState("");
  const [entity, setEntity] = useState("");
  const reading = useWork(() => post<Provider>("providers", { document, ...(entity ? { entityId: entity } : {}) }));
  const { busy, error, result: provider } = reading;
  const [entities, setEntities] = useState<string[]>([]);
  useEffect(() => {
    const found = provider?.entities ?? [];
    if (!found.length) return;
    setEntities(found);
    setEntity(found[0] ?? "");
  }, [provider]);
  return (
    <details class="card provider">
      <summary>{t("provider.title")}</summary>
      <div class="rows">
        <AreaField
          label={t("provider.document")}
          help={t("provider.help")}
          value={document}
          onInput={(next) => {
            setDocument(next);
            setEntities([]);
            setEntity("");
          }}
          rows={6}
          error={error?.field === "document" ? error.message : undefined}
        />
        {entities.length > 0 && (
          <SelectField label={t("provider.entity")} value={entity} onInput={setEntity} options={entities} />
        )}
        <div>
          <Button busy={busy} disabled={!document.trim()} icon="explain" onClick={reading.start}>
            {t("provider.read")}
          </Button>
        </div>
        {error && error.field !== "document" && <FailureNotice error={error} />}
        {provider && provider.facts.length > 0 && (
          <div class="rows" role="status">
            <Steps steps={provider.facts} />
            <div>
              <Button kind="primary" icon="edit" onClick={() => change(filled(text, provider))}>
                {t("provider.fill")}
              </Button>
            </div>
          </div>
        )}
      </div>
    </details>
  );
}
