// The catalogue: the same places to fill in every language, and no key that nobody uses.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { de } from "../../src/i18n/de";
import { en } from "../../src/i18n/en";
import { tr } from "../../src/i18n/tr";

const source = join(process.env.UI ?? ".", "src");
const places = (text: string): string[] => (text.match(/\{\w+\}/g) ?? []).sort();

test("every language fills in the same places", () => {
  for (const words of [de, tr]) {
    for (const [key, text] of Object.entries(en)) {
      assert.deepEqual(places(words[key as keyof typeof en]), places(text), key);
      assert.ok(words[key as keyof typeof en].trim(), key);
    }
  }
});

test("every key is used", () => {
  const code = readdirSync(source, { recursive: true, encoding: "utf8" })
    .filter((each) => /\.tsx?$/.test(each) && !each.startsWith("i18n"))
    .map((each) => readFileSync(join(source, each), "utf8"))
    .join("\n");
  const unused = Object.keys(en).filter((key) => {
    const stem = key.replace(/\.(one|many)$/, "");
    const family = key.split(".")[0] ?? "";
    return !code.includes(`"${key}"`) && !code.includes(`"${stem}"`) && !code.includes(`\`${family}.\${`);
  });
  assert.deepEqual(unused, []);
});
