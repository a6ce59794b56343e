// Settings of a person that the browser keeps: theme, language, clock. Never anything secret.
import { effect, signal } from "@preact/signals";

export type Theme = "system" | "light" | "dark";
export const THEMES: Theme[] = ["system", "light", "dark"];

function stored<T extends string>(name: string, allowed: readonly T[], otherwise: T): T {
  try {
    const value = localStorage.getItem(`idm.${name}`);
    return allowed.find((each) => each === value) ?? otherwise;
  } catch {
    return otherwise;
  }
}

function keep(name: string, value: string): void {
  try {
    localStorage.setItem(`idm.${name}`, value);
  } catch {
    // A browser that stores nothing: the choice holds for this page.
  }
}

export const theme = signal<Theme>(stored("theme", THEMES, "system"));
export const clock = signal<"local" | "utc">(stored("clock", ["local", "utc"] as const, "local"));

export const LANGUAGES = ["en", "de", "tr"] as const;
export type Language = (typeof LANGUAGES)[number];
const preferred = LANGUAGES.find((each) => navigator.language.toLowerCase().startsWith(each)) ?? "en";
export const language = signal<Language>(stored("language", LANGUAGES, preferred));

/** Makes the choices take effect, and remembers them. */
export function applySettings(): void {
  effect(() => {
    document.documentElement.dataset["theme"] = theme.value;
    keep("theme", theme.value);
  });
  effect(() => keep("clock", clock.value));
  effect(() => {
    document.documentElement.lang = language.value;
    keep("language", language.value);
  });
}
