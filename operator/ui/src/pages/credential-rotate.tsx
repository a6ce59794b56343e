// Rotation: one choice, the overlap, and then the line that says how many gateways know the new key.
import { useState } from "preact/hooks";
import { post } from "../lib/api";
import { t } from "../lib/i18n";
import type { NewKey } from "../lib/types";
import { useWork } from "../lib/work";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { FailureNotice, Notice } from "../ui/states";
import { KeyOnce } from "./key-once";

const OVERLAPS = [
  [0, "rotate.now"],
  [3_600, "rotate.hour"],
  [86_400, "rotate.day"],
  [604_800, "rotate.week"],
] as const;

interface Props {
  namespace: string;
  name: string;
  onClose: () => void;
}

export function RotateDialog({ namespace, name, onClose }: Props) {
  const [overlap, setOverlap] = useState(86_400);
  const rotation = useWork(() => {
    const path = `credentials/${encodeURIComponent(namespace)}/${encodeURIComponent(name)}/rotate`;
    return post<NewKey>(path, { overlapSeconds: overlap });
  });
  const { busy, error, result: made } = rotation;
  if (made) {
    return (
      <Dialog title={t("rotate.done", { name })}>
        <KeyOnce made={made} namespace={namespace} />
        <div class="buttons">
          <Button kind="primary" onClick={onClose}>
            {t(made.key ? "key.saved" : "do.close")}
          </Button>
        </div>
      </Dialog>
    );
  }
  return (
    <Dialog title={t("rotate.of", { name })} onClose={onClose}>
      <form class="rows" onSubmit={rotation.start}>
        <p>{t("rotate.text")}</p>
        <fieldset class="choice">
          <legend class="sr-only">{t("rotate.overlap")}</legend>
          {OVERLAPS.map(([seconds, word]) => (
            <label key={seconds}>
              <input type="radio" name="overlap" checked={overlap === seconds} onChange={() => setOverlap(seconds)} />
              {t(word)}
            </label>
          ))}
        </fieldset>
        {overlap === 0 && (
          <Notice tone="warning">
            <p>{t("rotate.nowText")}</p>
          </Notice>
        )}
        {error && <FailureNotice error={error} />}
        <div class="buttons">
          <Button onClick={onClose}>{t("do.cancel")}</Button>
          <Button kind="primary" submit busy={busy} icon="rotate">
            {t("do.rotate")}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
