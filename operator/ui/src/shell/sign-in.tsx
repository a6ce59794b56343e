// Signing in, as a page at first and as a dialog on top of the page when a session has ended.
import { useState } from "preact/hooks";
import { signIn } from "../lib/api";
import { t } from "../lib/i18n";
import { forgetPermissions } from "../lib/permissions";
import { me, resume } from "../lib/session";
import { useWork } from "../lib/work";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { TextField } from "../ui/field";
import { Notice } from "../ui/states";
import { signOut } from "./bar";

function Form({ onDone }: { onDone: () => void }) {
  const [secret, setSecret] = useState("");
  const { busy, error, start } = useWork(async () => {
    const code = secret.trim();
    if (!code) return;
    // It is not kept longer than it is needed.
    setSecret("");
    me.value = await signIn({ code });
    forgetPermissions();
    onDone();
  });
  return (
    <form class="rows" onSubmit={start}>
      <TextField
        label={t("signIn.code")}
        help={t("signIn.codeHelp")}
        value={secret}
        onInput={setSecret}
        required
        autocomplete="one-time-code"
        attributes={{ class: "code-input", autofocus: true }}
      />
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
