// The whole page: the sign-in page, or navigation, bar and the page of the address.
import { signal } from "@preact/signals";
import { useCallback, useEffect, useState } from "preact/hooks";
import type { Failure } from "../lib/api";
import { t } from "../lib/i18n";
import { ended, me } from "../lib/session";
import { place } from "../lib/router";
import { hasDrafts } from "../lib/drafts";
import { LiveRegion } from "../ui/live";
import { FailureNotice, Skeleton } from "../ui/states";
import { Bar } from "./bar";
import { HelpDialog } from "./help";
import { useShortcuts } from "./keys";
import { Side } from "./side";
import { SignInAgain, SignInPage } from "./sign-in";
import { routed } from "./routes";

/** Why the application could not start, when that was not for want of a session. */
export const startFailure = signal<Failure | undefined>(undefined);

export function App() {
  if (me.value === undefined)
    return (
      <div class="sign-in">
        <Skeleton rows={3} />
      </div>
    );
  if (startFailure.value) {
    return (
      <main class="sign-in">
        <div class="card">
          <FailureNotice error={startFailure.value} retry={() => location.reload()} />
        </div>
      </main>
    );
  }
  return me.value === null ? (
    <>
      <SignInPage />
      <LiveRegion />
    </>
  ) : (
    <Shell />
  );
}

function Shell() {
  const [open, setOpen] = useState(false);
  const [help, setHelp] = useState(false);
  useShortcuts(useCallback(() => setHelp(true), []));
  const path = place.value.path;
  useEffect(() => setOpen(false), [path]);
  useEffect(() => {
    // Text that is not saved yet lives in this page alone.
    const ask = (event: BeforeUnloadEvent) => {
      if (hasDrafts()) event.preventDefault();
    };
    addEventListener("beforeunload", ask);
    return () => removeEventListener("beforeunload", ask);
  }, []);
  const skip = () => document.getElementById("main")?.focus();
  return (
    <>
      <a
        class="skip"
        href="#main"
        onClick={(event) => {
          event.preventDefault();
          skip();
        }}
      >
        {t("shell.skip")}
      </a>
      <div class="shell">
        <Side open={open} />
        <div>
          <Bar onMenu={() => setOpen(!open)} open={open} onHelp={() => setHelp(true)} />
          <main
            id="main"
            tabIndex={-1}
            onClick={() => {
              if (open) setOpen(false);
            }}
          >
            {routed(path)}
          </main>
        </div>
      </div>
      {help && <HelpDialog onClose={() => setHelp(false)} />}
      {ended.value && <SignInAgain />}
      <LiveRegion />
    </>
  );
}
