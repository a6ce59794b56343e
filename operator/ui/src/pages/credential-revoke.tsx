// Revocation of one key, or of all keys of a Credential.
import { useState } from "preact/hooks";
import { objectAt, post } from "../lib/api";
import { t, tn } from "../lib/i18n";
import { useRead } from "../lib/load";
import type { Detail } from "../lib/types";
import { useWork } from "../lib/work";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { FailureNotice, Loaded, Notice } from "../ui/states";
import { SpreadLine } from "../ui/spread";

interface Props {
  namespace: string;
  name: string;
  first?: string;
  onClose: () => void;
}

/** Revokes keys of a Credential: one, or all. */
export function revoke(namespace: string, name: string, key?: string): Promise<{ revoked: string[] }> {
  const path = `credentials/${encodeURIComponent(namespace)}/${encodeURIComponent(name)}/revoke`;
  return post(path, key ? { key } : {});
}

export function RevokeDialog({ namespace, name, first = "", onClose }: Props) {
  const path = objectAt("Credential", namespace, name);
  const load = useRead<Detail>(path);
  const [key, setKey] = useState(first);
  const revocation = useWork(async () => (await revoke(namespace, name, key || undefined)).revoked);
  const { busy, error, result: revoked } = revocation;
  if (revoked) {
    return (
      <Dialog title={tn("revoke.done", revoked.length)} onClose={onClose}>
        <p>
          {revoked.map((each) => (
            <code key={each} class="chip">
              {each}
            </code>
          ))}
        </p>
        <p>
          <SpreadLine namespace={namespace} />
        </p>
        <div class="buttons">
          <Button kind="primary" onClick={onClose}>
            {t("do.close")}
          </Button>
        </div>
      </Dialog>
    );
  }
  return (
    <Dialog title={t("revoke.of", { name })} onClose={onClose}>
      <form class="rows" onSubmit={revocation.start}>
        <Notice tone="warning">
          <p>{t("revoke.text")}</p>
        </Notice>
        <Loaded load={load} rows={2}>
          {(credential) => (
            <fieldset class="options">
              <legend>{t("revoke.which")}</legend>
              <label class="check">
                <input type="radio" name="key" checked={key === ""} onChange={() => setKey("")} />
                {t("revoke.all")}
              </label>
              {(credential.keys ?? []).map((each) => (
                <label class="check" key={each.id}>
                  <input type="radio" name="key" checked={key === each.id} onChange={() => setKey(each.id)} />
                  <code>{each.id}</code> <span class="muted">{each.state}</span>
                </label>
              ))}
            </fieldset>
          )}
        </Loaded>
        {error && <FailureNotice error={error} />}
        <div class="buttons">
          <Button onClick={onClose}>{t("do.cancel")}</Button>
          <Button kind="danger" submit busy={busy}>
            {t("do.revoke")}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
