// The bar on top: search, namespace, language, theme, and who is signed in.
import { useState } from "preact/hooks";
import { call } from "../lib/api";
import { t } from "../lib/i18n";
import { address, explainPath, filter, go, place } from "../lib/router";
import { me } from "../lib/session";
import { LANGUAGES, language, theme, THEMES, type Language } from "../lib/settings";
import { Button } from "../ui/button";
import { Icon, type IconName } from "../ui/icon";
import { say } from "../ui/live";

const THEME_ICONS: Record<(typeof THEMES)[number], IconName> = { system: "screen", light: "sun", dark: "moon" };
const NAMES: Record<Language, string> = { en: "English", de: "Deutsch", tr: "Türkçe" };

/** A ULID, as ids of records are. */
const isRecordId = (text: string): boolean => /^[0-7][0-9A-HJKMNP-TV-Z]{25}$/i.test(text.trim());

function Seek() {
  const [text, setText] = useState("");
  const submit = (event: Event) => {
    event.preventDefault();
    const wanted = text.trim();
    if (!wanted) return;
    setText("");
    if (isRecordId(wanted)) go(explainPath(wanted));
    else go(address("/credentials", { search: wanted }));
  };
  return (
    <form class="seek" role="search" onSubmit={submit}>
      <Icon name="explain" />
      <input
        id="seek"
        type="search"
        value={text}
        aria-label={t("shell.seek")}
        placeholder={t("shell.seek")}
        autocomplete="off"
        spellcheck={false}
        onInput={(event) => setText(event.currentTarget.value)}
      />
      <kbd aria-hidden="true">/</kbd>
    </form>
  );
}

function NamespaceSelect() {
  const namespaces = me.value?.namespaces ?? [];
  const chosen = place.value.query.get("ns") ?? "";
  if (namespaces.length < 2) return null;
  return (
    <select
      aria-label={t("shell.namespace")}
      value={chosen}
      onInput={(event) => filter({ ns: event.currentTarget.value, after: "" })}
    >
      <option value="" selected={chosen === ""}>
        {t("shell.allNamespaces")}
      </option>
      {namespaces.map((each) => (
        <option key={each} value={each} selected={each === chosen}>
          {each}
        </option>
      ))}
    </select>
  );
}

export async function signOut(): Promise<void> {
  try {
    await call<void>("DELETE", "session");
  } finally {
    // A fresh page has nothing in memory.
    location.assign("/");
  }
}

export function Bar({ onMenu, onHelp, open }: { onMenu: () => void; onHelp: () => void; open: boolean }) {
  const next = THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length] ?? "system";
  const switchTheme = () => {
    theme.value = next;
    say(t(`theme.${next}`));
  };
  return (
    <header class="bar">
      <button
        type="button"
        class="button plain square menu"
        aria-label={t("nav.main")}
        aria-expanded={open}
        aria-controls="side"
        onClick={onMenu}
      >
        <Icon name="menu" />
      </button>
      <Seek />
      <div class="gap" />
      <NamespaceSelect />
      <select
        aria-label={t("shell.language")}
        value={language.value}
        onInput={(event) => {
          language.value = event.currentTarget.value as Language;
        }}
      >
        {LANGUAGES.map((each) => (
          <option key={each} value={each} selected={each === language.value}>
            {NAMES[each]}
          </option>
        ))}
      </select>
      <Button
        kind="plain"
        icon={THEME_ICONS[theme.value]}
        onClick={switchTheme}
        label={t("theme.switch", { now: t(`theme.${theme.value}`) })}
      />
      <span class="help-button">
        <Button kind="plain" icon="unknown" onClick={onHelp} label={t("shell.keys")} />
      </span>
      <div class="who">
        <span title={(me.value?.groups ?? []).join(", ")}>{me.value?.name}</span>
        <Button onClick={() => void signOut()}>{t("shell.signOut")}</Button>
      </div>
    </header>
  );
}
