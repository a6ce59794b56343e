// A new Credential with an API key.
import { useState } from "preact/hooks";
import { post } from "../lib/api";
import { t } from "../lib/i18n";
import { me } from "../lib/session";
import type { NewKey } from "../lib/types";
import { useWork } from "../lib/work";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { SelectField, TextField } from "../ui/field";
import { FailureNotice } from "../ui/states";
import { KeyOnce } from "./key-once";

/** Words between commas or spaces. */
export const words = (text: string): string[] => text.split(/[\s,]+/).filter(Boolean);

export function CreateCredential({ namespace, onClose }: { namespace: string | undefined; onClose: () => void }) {
  const [into, setInto] = useState(namespace ?? me.value?.namespaces[0] ?? "default");
  const [name, setName] = useState("");
  const [ownerKind, setOwnerKind] = useState("application");
  const [owner, setOwner] = useState("");
  const [roles, setRoles] = useState("");
  const [expires, setExpires] = useState("");
  const creation = useWork(async () =>
    post<NewKey>(`credentials/${encodeURIComponent(into)}`, {
      name: name.trim(),
      ...(owner.trim() ? { owner: owner.includes(":") ? owner.trim() : `${ownerKind}:${owner.trim()}` } : {}),
      ...(expires ? { expireTime: new Date(expires).toISOString() } : {}),
      ...(words(roles).length ? { roles: words(roles) } : {}),
    }),
  );
  const { busy, error, result: made } = creation;
  if (made) {
    return (
      <Dialog title={t("create.done", { name: made.name })}>
        <KeyOnce made={made} namespace={into} />
        <div class="buttons">
          <Button kind="primary" onClick={onClose}>
            {t("key.saved")}
          </Button>
        </div>
      </Dialog>
    );
  }
  const at = (field: string) => (error?.field === field ? error.message : undefined);
  return (
    <Dialog title={t("create.credential")} onClose={onClose}>
      <form class="rows" onSubmit={creation.start}>
        {(me.value?.namespaces.length ?? 0) > 1 && (
          <SelectField label={t("col.namespace")} value={into} onInput={setInto} options={me.value?.namespaces ?? []} />
        )}
        <TextField
          label={t("col.name")}
          value={name}
          onInput={setName}
          required
          mono
          error={at("name")}
          help={t("create.nameHelp")}
          attributes={{ autofocus: true, maxLength: 253 }}
        />
        <div class="row">
          <SelectField
            label={t("create.ownerKind")}
            value={ownerKind}
            onInput={setOwnerKind}
            options={[
              ["application", t("create.application")],
              ["user", t("create.user")],
            ]}
          />
          <TextField label={t("col.owner")} value={owner} onInput={setOwner} error={at("owner")} />
        </div>
        <TextField
          label={t("create.roles")}
          value={roles}
          onInput={setRoles}
          error={at("roles")}
          help={t("create.rolesHelp")}
        />
        <TextField
          label={t("col.expires")}
          type="datetime-local"
          value={expires}
          onInput={setExpires}
          error={at("expireTime")}
          help={t("create.expiresHelp")}
        />
        {error && !error.field && <FailureNotice error={error} />}
        <div class="buttons">
          <Button onClick={onClose}>{t("do.cancel")}</Button>
          <Button kind="primary" submit busy={busy}>
            {t("create.make")}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
