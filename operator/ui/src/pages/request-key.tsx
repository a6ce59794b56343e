// A key is taken: read once more, opened with the private key of this browser, shown, and said to be received. It is in
// the memory of its dialog alone.
import { useEffect, useState } from "preact/hooks";
import { get, post } from "../lib/api";
import { t } from "../lib/i18n";
import { JweError, opened } from "../lib/jwe";
import { forgetPair, privateKeyOf } from "../lib/key-pairs";
import { hasId, requestAt } from "../lib/request";
import { curl, javascript, python, USUAL_ADDRESS, USUAL_HEADER } from "../lib/snippets";
import { stamp } from "../lib/time";
import type { RequestView } from "../lib/types";
import { useWork } from "../lib/work";
import { Button, Copy } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { TextField } from "../ui/field";
import { FailureNotice, Notice, Skeleton } from "../ui/states";

/** The key of a request, or an error that says what is wrong with it. */
async function taken(request: RequestView): Promise<string> {
  const now = await get<RequestView>(requestAt(request));
  const own = await privateKeyOf(now.recipient);
  if (now.uid !== request.uid || !now.encryptedKey || !own) throw new Error(t("take.gone"));
  let key: string;
  try {
    key = await opened(now.encryptedKey, own);
  } catch (cause) {
    const why = cause instanceof JweError ? cause.message : t("take.unreadable");
    throw new Error(t("take.broken", { cause: why }));
  }
  if (!(await hasId(key, now.made?.keyId ?? ""))) {
    throw new Error(t("take.wrongKey", { id: now.made?.keyId ?? "–" }));
  }
  return key;
}

function Example({ title, text }: { title: string; text: string }) {
  return (
    <div>
      <div class="card-head">
        <h3>{title}</h3>
        <Copy text={text} label={t("take.copyExample", { name: title })} />
      </div>
      <pre class="code" tabIndex={0} role="region" aria-label={title}>
        {text}
      </pre>
    </div>
  );
}

function Examples({ secret }: { secret: string }) {
  const [address, setAddress] = useState(USUAL_ADDRESS);
  const [header, setHeader] = useState(USUAL_HEADER);
  return (
    <details>
      <summary>{t("take.examples")}</summary>
      <div class="rows">
        <div class="row">
          <TextField label={t("take.address")} value={address} onInput={setAddress} mono />
          <TextField label={t("take.header")} value={header} onInput={setHeader} mono />
        </div>
        <p class="small muted">{t("take.headerHelp")}</p>
        <Example title="curl" text={curl({ address, header, secret })} />
        <p class="small muted">{t("take.environment")}</p>
        <Example title="JavaScript" text={javascript({ address, header })} />
        <Example title="Python" text={python({ address, header })} />
      </div>
    </details>
  );
}

export function TakeDialog({ request, onClose }: { request: RequestView; onClose: () => void }) {
  const taking = useWork(() => taken(request));
  const receiving = useWork(async () => {
    await post(`${requestAt(request)}/received`, { uid: request.uid });
    // The ciphertext is gone: so is what opens it.
    await forgetPair(request.recipient).catch(() => undefined);
    onClose();
  });
  useEffect(() => taking.start(), []);
  const { result: secret, error } = taking;
  const until = request.keyUntilTime ? stamp(request.keyUntilTime) : "–";
  return (
    <Dialog title={t("take.title", { name: request.name })} onClose={onClose} wide>
      {error && <FailureNotice error={error} retry={taking.start} />}
      {!secret && !error && <Skeleton rows={2} />}
      {secret && (
        <>
          <Notice tone="warning">
            <p>{t("take.onceText")}</p>
          </Notice>
          <div class="secret">
            <code>{secret}</code>
            <Copy text={secret} label={t("key.copy")} />
          </div>
          <Examples secret={secret} />
          <p class="small muted">{t("take.laterText", { time: until })}</p>
          {receiving.error && <FailureNotice error={receiving.error} />}
        </>
      )}
      <div class="buttons">
        <Button onClick={onClose}>{t(secret ? "take.later" : "do.close")}</Button>
        {secret && (
          <Button kind="primary" busy={receiving.busy} onClick={receiving.start}>
            {t("take.got")}
          </Button>
        )}
      </div>
    </Dialog>
  );
}
