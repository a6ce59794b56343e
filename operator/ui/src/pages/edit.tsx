// Editing: form or text over one draft, which outlives tabs, pages and sessions; and the way to save it.
import { useState } from "preact/hooks";
import { t } from "../lib/i18n";
import { draftKey, draftOf, dropDraft, setDraft } from "../lib/drafts";
import type { Detail, Finding, Kind } from "../lib/types";
import { Act, Button, Copy } from "../ui/button";
import { lazy } from "../ui/lazy";
import { useMissing } from "../lib/permissions";
import { missingText } from "../ui/button";
import { Notice } from "../ui/states";
import { SaveDialog } from "./save";

export const Editor = lazy(async () => (await import("../form/editor")).Editor);

interface Props {
  kind: Kind;
  object: Detail;
  way: "form" | "yaml";
  reload: () => void;
}

export function EditTab({ kind, object, way, reload }: Props) {
  const { namespace, name } = object;
  const key = draftKey(kind, namespace, name);
  const draft = draftOf(key);
  const text = draft?.text ?? object.yaml;
  const changed = draft !== undefined && draft.text !== draft.base;
  const lacking = useMissing(kind, "update", namespace);
  const [drafting, setDrafting] = useState(false);
  const [saving, setSaving] = useState(false);
  const [findings, setFindings] = useState<Finding[]>(object.findings);
  const managed = object.managedBy !== undefined;
  const readOnly = managed ? !drafting : lacking !== undefined;
  // A draft keeps the version that it began with: what others do meanwhile is a conflict, not lost.
  const write = (next: string) =>
    setDraft(key, {
      base: draft?.base ?? object.yaml,
      version: draft?.version ?? object.version,
      text: next,
    });
  const discard = () => {
    dropDraft(key);
    setFindings(object.findings);
  };
  return (
    <div class="stack">
      {lacking && !managed && (
        <Notice tone="note">
          <p>{missingText(lacking)}</p>
        </Notice>
      )}
      <div class="edit-bar">
        <span class="muted">{changed ? t("edit.changed") : ""}</span>
        <span class="actions">
          <Copy text={text}>{t("edit.copy")}</Copy>
          {managed && !drafting && (
            <Button icon="edit" onClick={() => setDrafting(true)}>
              {t("edit.draft")}
            </Button>
          )}
          {changed && <Button onClick={discard}>{t("edit.discard")}</Button>}
          {managed ? (
            drafting && (
              <Button kind="primary" disabled={!changed} onClick={() => setSaving(true)}>
                {t("edit.check")}
              </Button>
            )
          ) : (
            <Act
              need={[kind, "update"]}
              namespace={namespace}
              kind="primary"
              disabled={!changed}
              onClick={() => setSaving(true)}
            >
              {t("edit.save")}
            </Act>
          )}
        </span>
      </div>
      <Editor
        kind={kind}
        subject={{ namespace, name, version: draft?.version ?? object.version }}
        text={text}
        way={way}
        readOnly={readOnly}
        isNew={false}
        findings={findings}
        onText={write}
      />
      {saving && (
        <SaveDialog
          kind={kind}
          namespace={namespace}
          name={name}
          yaml={text}
          version={draft?.version ?? object.version}
          draftOnly={managed}
          onFindings={setFindings}
          onClose={() => setSaving(false)}
          onSaved={(saved) => {
            dropDraft(key);
            setFindings(saved.findings);
            reload();
          }}
          onTheirs={() => {
            discard();
            setSaving(false);
            reload();
          }}
          onRebase={(version) => setDraft(key, { base: draft?.base ?? object.yaml, text, version })}
        />
      )}
    </div>
  );
}
