// The browser tests: every page under the server's own safety headers, and by axe in both themes; a person signs in by
// keyboard alone; and, where IDM names the built binary, one journey with the real server.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { launch } from "./browser.mjs";
import { PAGES } from "./pages.mjs";
import { serve } from "../fixture/server.mjs";
import { journey } from "./journey.mjs";

const axe = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
let server, browser;
before(async () => {
  server = await serve();
  browser = await launch();
});
after(async () => {
  await browser.close();
  await server.close();
});

async function opened(options, address = server.address) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, locale: "en-GB", ...options });
  const page = await context.newPage();
  const seen = { errors: [], violations: [], planted: [] };
  page.on("pageerror", (error) => seen.errors.push(error.message));
  page.on("dialog", (dialog) => {
    seen.planted.push(dialog.message());
    void dialog.dismiss();
  });
  await page.exposeFunction("onViolation", (text) => seen.violations.push(text));
  await page.addInitScript(() =>
    document.addEventListener("securitypolicyviolation", (event) =>
      globalThis.onViolation(`${event.violatedDirective} ${event.blockedURI}`),
    ),
  );
  return { page, seen, address, close: () => context.close() };
}

async function visit(of, path, prepare) {
  await of.page.goto(of.address + path, { waitUntil: "networkidle" });
  if (prepare) await prepare(of.page);
}

test("no page breaks the policy of contents, and no text of others becomes markup", async () => {
  const of = await opened({});
  for (const [name, path, prepare] of PAGES) {
    await visit(of, path, prepare);
    assert.ok((await of.page.locator("h1").count()) >= 1, `${name} has a heading`);
    assert.equal(await of.page.locator("img[src=x], main script").count(), 0, `${name} has markup of a text`);
  }
  assert.deepEqual(of.seen, { errors: [], violations: [], planted: [] });
  await of.close();
});

for (const width of [360, 1280])
  test(`no page is wider than a screen of ${width} px`, async () => {
    const of = await opened({ viewport: { width, height: 740 } });
    for (const [name, path, prepare] of PAGES) {
      await visit(of, path, prepare);
      const wide = await of.page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(wide <= width, `${name} is ${wide} px wide`);
    }
    await of.close();
  });

for (const theme of ["light", "dark"])
  test(`axe finds nothing on any page in ${theme}`, async () => {
    const of = await opened({ colorScheme: theme, bypassCSP: true });
    const found = [];
    for (const [name, path, prepare] of PAGES) {
      await visit(of, path, prepare);
      await of.page.addScriptTag({ path: axe });
      const { violations } = await of.page.evaluate(() => globalThis.axe.run());
      found.push(
        ...violations.map((each) => `${name}: ${each.id} at ${each.nodes.map((node) => node.target).join(", ")}`),
      );
    }
    assert.deepEqual(found, []);
    await of.close();
  });

test("a journey with the real server", { skip: process.env.IDM ? false : "IDM names no binary" }, async () => {
  await journey(process.env.IDM, opened);
});
