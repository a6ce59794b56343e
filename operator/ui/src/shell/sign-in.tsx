// Signing in, as a page at first and as a dialog on top of the page when a session has ended.
import { useEffect, useState } from "preact/hooks";
import { signIn, signInWay } from "../lib/api";
import { t } from "../lib/i18n";
import { forgetPermissions } from "../lib/permissions";
import { me, resume } from "../lib/session";
import { useWork } from "../lib/work";
import { Button, Copy } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { TextField } from "../ui/field";
import { Notice } from "../ui/states";
import { signOut } from "./bar";

/** The line with which a person gets a token. */
const TOKEN_COMMAND = "kubectl create token NAME -n NAMESPACE --duration 8h";

function Form({ onDone }: { onDone: () => void }) {
  const [secret, setSecret] = useState("");
  const [namespaces, setNamespaces] = useState("");
  const [way, setWay] = useState<"code" | "token">();
  useEffect(() => {
    // Without an answer the page asks for a code: signing in says what is wrong.
    signInWay().then(setWay, () => setWay("code"));
  }, []);
  const { busy, error, start } = useWork(async () => {
    const given = secret.trim();
    if (!given) return;
    // It is not kept longer than it is needed.
    setSecret("");
    const named = namespaces.split(/[\s,]+/).filter(Boolean);
    me.value = await signIn(way === "token" ? { token: given, namespaces: named } : { code: given });
    forgetPermissions();
    onDone();
  });
  if (!way) return null;
  return (
    <form class="rows" onSubmit={start}>
      {way === "token" ? (
        <>
          <TextField
            label={t("signIn.token")}
            help={t("signIn.tokenHelp")}
            type="password"
            value={secret}
            onInput={setSecret}
            required
            autocomplete="off"
            attributes={{ autofocus: true }}
          />
          <p>
            <code>{TOKEN_COMMAND}</code> <Copy text={TOKEN_COMMAND} label={t("signIn.copy")} />
          </p>
          <TextField
            label={t("signIn.namespaces")}
            help={t("signIn.namespacesHelp")}
            value={namespaces}
            onInput={setNamespaces}
            autocomplete="off"
          />
        </>
      ) : (
        <TextField
          label={t("signIn.code")}
          help={t("signIn.codeHelp")}
          value={secret}
          onInput={setSecret}
          required
          autocomplete="one-time-code"
          attributes={{ class: "code-input", autofocus: true }}
        />
      )}
      {error && (
        <Notice tone="danger" alert>
          <p>{error.message}</p>
        </Notice>
      )}
      <Button kind="primary" submit busy={busy}>
        {t("signIn.do")}
      </Button>
    </form>
  );
}

export const SignInPage = () => (
  <main class="sign-in">
    <div class="card">
      <h1>
        <img src="/favicon.svg" alt="" />
        {t("signIn.title")}
      </h1>
      <Form onDone={() => undefined} />
    </div>
  </main>
);

/** On top of the page, which keeps everything that was written in it. */
export const SignInAgain = () => (
  <Dialog title={t("signIn.again")}>
    <p>{t("signIn.againText")}</p>
    <Form onDone={resume} />
    <div class="buttons">
      <Button kind="plain" onClick={() => void signOut()}>
        {t("shell.signOut")}
      </Button>
    </div>
  </Dialog>
);
