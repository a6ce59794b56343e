// A new object, from a few lines to start with.
import { useState } from "preact/hooks";
import { t, type Word } from "../lib/i18n";
import { draftKey, draftOf, dropDraft, setDraft } from "../lib/drafts";
import { chosenNamespace, go, linkTo, place } from "../lib/router";
import { me } from "../lib/session";
import type { Detail, Finding, Kind } from "../lib/types";
import { Act, Button } from "../ui/button";
import { SelectField } from "../ui/field";
import { Page } from "../ui/page";
import { starter, STARTERS } from "../lib/starters";
import { Editor } from "./edit";
import { SaveDialog } from "./save";

const TITLES: Record<Kind, Word> = {
  IdentityPolicy: "new.policy",
  Credential: "create.credential",
  Federation: "new.federation",
  RoleBinding: "new.binding",
};

/** `metadata.name` of the text. Read by pattern: the parser is not loaded for it. */
export const nameIn = (text: string): string =>
  /^metadata:\s*(?:\{[^}]*?\bname:\s*|(?:\n\s+(?!name:)[^\n]*)*\n\s+name:\s*)["']?([a-z0-9.-]+)/m.exec(text)?.[1] ?? "";

export function NewObjectPage({ kind }: { kind: Kind }) {
  const method = place.value.query.get("method") ?? Object.keys(STARTERS[kind])[0] ?? "";
  const [namespace, setNamespace] = useState(chosenNamespace() ?? me.value?.namespaces[0] ?? "default");
  const [way, setWay] = useState<"form" | "yaml">("form");
  const [saving, setSaving] = useState<string | undefined>();
  const [saved, setSaved] = useState<Detail | undefined>();
  const [findings, setFindings] = useState<Finding[]>([]);
  const key = draftKey(kind, "new", method);
  const base = starter(kind, method);
  const text = draftOf(key)?.text ?? base;
  const close = () => {
    setSaving(undefined);
    if (saved) go(linkTo(saved));
  };
  const name = nameIn(text);
  return (
    <Page
      title={t(TITLES[kind])}
      lead={t("new.lead")}
      actions={
        <Act
          need={[kind, "create"]}
          namespace={namespace}
          kind="primary"
          disabled={!name}
          onClick={() => setSaving(name)}
        >
          {t("edit.save")}
        </Act>
      }
    >
      <div class="stack">
        <div class="tools-row">
          {(me.value?.namespaces.length ?? 0) > 1 && (
            <SelectField
              label={t("col.namespace")}
              value={namespace}
              onInput={setNamespace}
              options={me.value?.namespaces ?? []}
            />
          )}
          {(["form", "yaml"] as const).map((each) => (
            <Button key={each} pressed={way === each} onClick={() => setWay(each)}>
              {t(each === "form" ? "tab.form" : "tab.yaml")}
            </Button>
          ))}
        </div>
        <Editor
          kind={kind}
          subject={{ namespace, name }}
          text={text}
          way={way}
          readOnly={false}
          isNew
          findings={findings}
          onText={(next) => setDraft(key, { base, text: next })}
        />
      </div>
      {saving && (
        <SaveDialog
          kind={kind}
          namespace={namespace}
          name={saving}
          yaml={text}
          version={undefined}
          onFindings={setFindings}
          onSaved={(object) => {
            dropDraft(key);
            setSaved(object);
          }}
          onTheirs={() => undefined}
          onRebase={() => undefined}
          onClose={close}
        />
      )}
    </Page>
  );
}
