// One request: its state, what is asked for, and what the person who looks may do with it.
import { useEffect, useState } from "preact/hooks";
import { post } from "../lib/api";
import { t } from "../lib/i18n";
import { forgetPair, hasCrypto, privateKeyOf } from "../lib/key-pairs";
import { useRead } from "../lib/load";
import { isOver, requestAt } from "../lib/request";
import { go } from "../lib/router";
import { stamp } from "../lib/time";
import type { RequestView } from "../lib/types";
import { useWork } from "../lib/work";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { say } from "../ui/live";
import { Card, Page } from "../ui/page";
import { FailureNotice, Notice } from "../ui/states";
import { AnswerButtons, AnswerDialog, type Answer } from "./request-answer";
import { Asked, HashLine, Here, StateNotice, useHash, When } from "./request-parts";
import { TakeDialog } from "./request-key";

/** Whether this browser has the private key of a request; undefined while that is not known. */
function useOwnKey({ recipient, encryptedKey }: RequestView): boolean | undefined {
  const [has, setHas] = useState<boolean | undefined>();
  useEffect(() => {
    if (!encryptedKey) return;
    privateKeyOf(recipient).then(
      (key) => setHas(!!key),
      () => setHas(false),
    );
  }, [recipient, encryptedKey]);
  return hasCrypto() ? has : false;
}

function WithdrawDialog({ request, onClose }: { request: RequestView; onClose: () => void }) {
  const { name, uid, made, recipient } = request;
  const { busy, error, start } = useWork(async () => {
    await post(`${requestAt(request)}/withdraw`, { uid });
    await forgetPair(recipient).catch(() => undefined);
    say(t("withdraw.done", { name }));
    go("/my-access");
  });
  return (
    <Dialog title={t("withdraw.of", { name })} onClose={onClose}>
      <p>{t(made ? "withdraw.made" : "withdraw.text")}</p>
      {error && <FailureNotice error={error} />}
      <div class="buttons">
        <Button onClick={onClose}>{t("do.cancel")}</Button>
        <Button kind="danger" busy={busy} onClick={start}>
          {t("withdraw.do")}
        </Button>
      </div>
    </Dialog>
  );
}

function Key({ request, onTake }: { request: RequestView; onTake: () => void }) {
  const has = useOwnKey(request);
  if (!request.encryptedKey || has === undefined) return null;
  const time = request.keyUntilTime ? stamp(request.keyUntilTime) : "–";
  if (!hasCrypto()) {
    return (
      <Notice tone="warning">
        <p>{t("take.noCrypto")}</p>
      </Notice>
    );
  }
  return has ? (
    <p>
      <Button kind="primary" icon="key" onClick={onTake}>
        {t("take.do")}
      </Button>
    </p>
  ) : (
    <Notice tone="warning" title={t("take.elsewhere")}>
      <p>{t("take.elsewhereText", { time })}</p>
    </Notice>
  );
}

function Course({ request }: { request: RequestView }) {
  const { createdTime, answerUntilTime, decision, answeredBy, reason, made, keyUntilTime } = request;
  return (
    <dl class="facts">
      <dt>{t("asked.time")}</dt>
      <dd>
        <When time={createdTime} />
      </dd>
      {decision ? (
        <>
          <dt>{t(decision === "Approved" ? "answer.approvedBy" : "answer.rejectedBy")}</dt>
          <dd>{answeredBy}</dd>
          <dt>{t("answer.reason")}</dt>
          <dd>{reason ?? "–"}</dd>
        </>
      ) : (
        <>
          <dt>{t("asked.answerUntil")}</dt>
          <dd>
            <When time={answerUntilTime} />
          </dd>
        </>
      )}
      {made && (
        <>
          <dt>{t("asked.credential")}</dt>
          <dd>
            {made.name} · {t("key.id")} <code>{made.keyId}</code>
          </dd>
        </>
      )}
      {keyUntilTime && !isOver(request.state) && (
        <>
          <dt>{t("asked.keyUntil")}</dt>
          <dd>
            <When time={keyUntilTime} />
          </dd>
        </>
      )}
    </dl>
  );
}

function Filled({ request, reload }: { request: RequestView; reload: () => void }) {
  const [open, setOpen] = useState<"take" | "withdraw" | Answer | undefined>();
  // The dialog goes on with the request as it was when it was opened.
  const [shown, setShown] = useState(request);
  const check = useHash(request);
  const { mine, state, recipient } = request;
  useEffect(() => {
    // A key pair that opens nothing any more does not stay.
    if (mine && isOver(state)) void forgetPair(recipient).catch(() => undefined);
  }, [mine, state, recipient]);
  const show = (what: "take" | "withdraw" | Answer) => {
    setShown(request);
    setOpen(what);
  };
  const close = () => {
    setOpen(undefined);
    reload();
  };
  return (
    <div class="stack">
      <StateNotice request={request} />
      {mine && <Key request={request} onTake={() => show("take")} />}
      <div class="split">
        <Card title={t("asked.what")}>
          <Asked request={request} />
          {!mine && <HashLine check={check} hash={request.hash} />}
        </Card>
        <Card title={t("asked.course")}>
          <Course request={request} />
        </Card>
      </div>
      <div class="buttons">
        {mine ? (
          <Button kind="danger" onClick={() => show("withdraw")}>
            {t("withdraw.do")}
          </Button>
        ) : (
          <AnswerButtons requests={[request]} onAnswer={show} />
        )}
      </div>
      {open === "take" && <TakeDialog request={shown} onClose={close} />}
      {open === "withdraw" && <WithdrawDialog request={shown} onClose={() => setOpen(undefined)} />}
      {(open === "approve" || open === "reject") && (
        <AnswerDialog requests={[shown]} answer={open} onClose={close} />
      )}
    </div>
  );
}

export function RequestPage({ namespace, name }: { namespace: string; name: string }) {
  const load = useRead<RequestView>(requestAt({ namespace, name }), 10);
  const mine = load.data?.mine ?? true;
  return (
    <Page title={name} above={mine ? [t("nav.myAccess"), "/my-access"] : [t("nav.requests"), "/requests"]}>
      <Here load={load}>{(request) => <Filled request={request} reload={load.reload} />}</Here>
    </Page>
  );
}
