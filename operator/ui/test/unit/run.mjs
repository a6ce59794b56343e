// Bundles the unit tests with the code under test and runs them: node test/unit/run.mjs
import { build } from "esbuild";
import { spawnSync } from "node:child_process";
import { readdir, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, "../../node_modules/.cache/unit");
const names = (await readdir(here)).filter((each) => each.endsWith(".test.ts"));
await rm(out, { recursive: true, force: true });
await build({
  entryPoints: names.map((each) => join(here, each)),
  outdir: out,
  bundle: true,
  packages: "external",
  format: "esm",
  platform: "node",
  target: "node20",
  jsx: "automatic",
  jsxImportSource: "preact",
  outExtension: { ".js": ".mjs" },
  // Modules that read the address or the settings at their start get an empty browser.
  banner: { js: "globalThis.location ??= { pathname: '/', search: '' };" },
  define: { "process.env.UI": JSON.stringify(join(here, "../..")) },
});
const files = names.map((each) => join(out, each.replace(/\.ts$/, ".mjs")));
process.exit(spawnSync(process.execPath, ["--test", ...files], { stdio: "inherit" }).status ?? 1);
