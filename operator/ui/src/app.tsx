// Start here. The browser application: who is signed in decides between the sign-in page and the shell.
import "./styles/index.css";
import { effect } from "@preact/signals";
import { render } from "preact";
import { asFailure } from "./lib/load";
import { whoAmI } from "./lib/api";
import { speak } from "./lib/i18n";
import { catchLinks } from "./lib/router";
import { me } from "./lib/session";
import { applySettings, language } from "./lib/settings";
import { App, startFailure } from "./shell/app";

async function start(): Promise<void> {
  applySettings();
  catchLinks();
  effect(() => {
    void speak(language.value);
  });
  const root = document.getElementById("app");
  if (root) render(<App />, root);
  try {
    me.value = await whoAmI();
  } catch (cause) {
    const failure = asFailure(cause);
    if (failure.status !== 401) startFailure.value = failure;
    me.value = null;
  }
}

void start();
