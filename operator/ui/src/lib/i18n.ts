// Words come from one catalogue. English is in the first load; the others are fetched when they are chosen.
import { signal } from "@preact/signals";
import { en } from "../i18n/en";
import type { Language } from "./settings";

export type Words = Record<keyof typeof en, string>;
export type Word = keyof typeof en;

const words = signal<Words>(en);

/** Loads a language; the words change when it is there. */
export async function speak(language: Language): Promise<void> {
  if (language === "de") words.value = (await import("../i18n/de")).de;
  else if (language === "tr") words.value = (await import("../i18n/tr")).tr;
  else words.value = en;
}

/** The text of a key, with `{name}` filled in. */
export function t(key: Word, values: Record<string, string | number> = {}): string {
  return words.value[key].replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));
}

type Counted = { [K in Word]: K extends `${infer Stem}.one` ? Stem : never }[Word];

/** A text that depends on a number: `key.one` and `key.many`. */
export function tn(key: Counted, n: number, values: Record<string, string | number> = {}): string {
  return t(`${key}.${n === 1 ? "one" : "many"}` as Word, { n: n.toLocaleString(), ...values });
}
