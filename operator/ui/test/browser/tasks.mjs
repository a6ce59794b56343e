// The main tasks by keyboard alone, over made-up data: what a person wrote outlives a session, a conflict shows both
// sides, a key leaves the page with its dialog, what is not allowed says why. And: pages without data, and in error.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { launch, withPage as pageOver } from "./browser.mjs";
import { PAGES } from "./pages.mjs";

const axe = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
let browser;
before(async () => {
  browser = await launch();
});
after(() => browser.close());

const withPage = (mode, options, act) => pageOver(browser, { mode, ...options }, act);
const full = (act) => withPage("full", {}, act);
const button = (at, name) => at.getByRole("button", { name, exact: true });

/** Presses a control by keyboard. */
async function press(page, control) {
  await control.focus();
  await page.keyboard.press("Enter");
}

async function edit(page, server) {
  await page.goto(`${server.address}/policies/billing/partners?tab=form`);
  await page.getByLabel("Realm").focus();
  await page.keyboard.press("End");
  await page.keyboard.type("-eu");
}

test("a saved form keeps comments and unknown fields", () =>
  full(async (page, server) => {
    await edit(page, server);
    await press(page, button(page, "Check and save"));
    const dialog = page.getByRole("dialog");
    await dialog.getByText("Basic sends the password with every request").waitFor();
    await press(page, button(dialog, "Save"));
    await dialog.getByText("3/3 gateways know it").waitFor();
    const { yaml } = server.world.find("IdentityPolicy", "billing", "partners");
    assert.match(yaml, /realm: invoices-eu/);
    assert.match(yaml, /# The partners' policy: this comment must survive every edit\./);
    assert.match(yaml, /# invoices only/);
    assert.match(yaml, /futureField: \{kept: \[1, 2, 3\]\}/);
    await press(page, button(dialog, "Close").last());
    assert.equal(await page.getByText("Changed, not saved").count(), 0);
  }));

test("text outlives a session that ended, and other pages", () =>
  full(async (page, server) => {
    await edit(page, server);
    server.world.signedIn = false;
    await press(page, button(page, "Check and save"));
    const again = page.getByRole("dialog", { name: "Your session has ended" });
    await again.getByLabel("One-time code").fill("4F7-K2");
    await page.keyboard.press("Enter");
    await page.getByRole("dialog", { name: "Save partners" }).getByText("What changes").waitFor();
    assert.ok(!(await page.content()).includes("4F7-K2"));
    await page.keyboard.press("Escape");
    await press(page, page.getByRole("link", { name: "Home", exact: true }));
    await page.getByRole("heading", { level: 1, name: "Home" }).waitFor();
    await page.goBack();
    assert.equal(await page.getByLabel("Realm").inputValue(), "invoices-eu");
  }));

test("a conflict shows both sides and loses neither", () =>
  full(async (page, server) => {
    await edit(page, server);
    const theirs = server.world.find("IdentityPolicy", "billing", "partners");
    theirs.version = "2";
    theirs.yaml = theirs.yaml.replace("device-ca", "their-ca");
    await press(page, button(page, "Check and save"));
    await press(page, button(page.getByRole("dialog"), "Save"));
    const dialog = page.getByRole("dialog", { name: "partners was changed by somebody else" });
    const shown = await dialog.getByRole("group", { name: "Difference" }).textContent();
    assert.match(shown, /- .*their-ca/);
    assert.match(shown, /\+ .*invoices-eu/);
    await press(page, button(dialog, "Keep mine and check again"));
    await press(page, button(page.getByRole("dialog", { name: "Save partners" }), "Save"));
    await page.getByRole("dialog", { name: "partners is saved" }).waitFor();
  }));

test("a key is shown once, and nowhere after its dialog", () =>
  full(async (page, server) => {
    await page.goto(`${server.address}/credentials`);
    await press(page, page.getByRole("button", { name: "Rotate nightly" }));
    const dialog = page.getByRole("dialog");
    await press(page, button(dialog, "Rotate"));
    const key = await dialog.locator(".secret code").innerText();
    assert.match(key, /^idm_key_/);
    await dialog.getByText("3/3 gateways know it").waitFor();
    await press(page, button(dialog, "I have copied it"));
    await dialog.waitFor({ state: "detached" });
    const kept = await page.evaluate(() =>
      JSON.stringify([document.documentElement.outerHTML, location.href, localStorage, sessionStorage, history.state]),
    );
    assert.ok(!kept.includes(key));
  }));

test("what is not allowed names permission, scope and who grants it", () =>
  full(async (page, server) => {
    server.world.denied.add("rotate Credential");
    await page.goto(`${server.address}/credentials`);
    await page.getByRole("button", { name: "Rotate nightly" }).focus();
    const why = "Needs the permission rotate Credential in shop. Ask ana";
    await page.getByRole("tooltip").filter({ hasText: why }).first().waitFor();
    await page.keyboard.press("Enter");
    assert.equal(await page.getByRole("dialog").count(), 0);
    assert.ok(!server.world.requests.some((each) => each.path.endsWith("/rotate")));
  }));

test("the tail pauses, counts, and resumes whole", () =>
  full(async (page, server) => {
    await page.goto(`${server.address}/audit?live=1`);
    await page.getByText("Live, nothing since you opened it").waitFor();
    await press(page, button(page, "Pause"));
    for (let n = 0; n < 12; n += 1) server.world.record({ title: `GET /tail/${n}` });
    assert.equal(await page.getByText("GET /tail/3", { exact: true }).count(), 0);
    await press(page, page.getByRole("button", { name: "12 new – resume" }));
    for (const n of [0, 11]) assert.equal(await page.getByText(`GET /tail/${n}`, { exact: true }).count(), 1);
  }));

test("grid and picture are walked with the arrows", () =>
  full(async (page, server) => {
    await page.goto(`${server.address}/matrix`);
    await page.getByRole("button", { name: "SystemAdmin may get IdentityPolicy" }).focus();
    for (const key of ["ArrowDown", "ArrowRight", "Enter"]) await page.keyboard.press(key);
    await page.getByRole("heading", { name: "Who may create IdentityPolicy" }).waitFor();
    await page.goto(`${server.address}/topology`);
    await page.locator("g.node[tabindex='0']").first().focus();
    await page.keyboard.press("ArrowRight");
    const kind = await page.evaluate(() => document.activeElement?.getAttribute("aria-roledescription"));
    assert.match(kind ?? "", /^(Gateway|HTTPRoute|Service)$/);
  }));

/** The findings of axe on the pages that can be empty: those of one object or record cannot. */
async function faults(page, server) {
  const found = [];
  for (const [name, path] of PAGES.filter(([each]) => !each.startsWith("policy-") && each !== "audit-record")) {
    await page.goto(server.address + path, { waitUntil: "networkidle" });
    await page.addScriptTag({ path: axe });
    const { violations } = await page.evaluate(() => globalThis.axe.run());
    const where = (each) => each.nodes.map((node) => node.target).join(", ");
    found.push(...violations.map((each) => `${name}: ${each.id} at ${where(each)}`));
  }
  return found;
}

for (const mode of ["empty", "error"])
  for (const colorScheme of ["light", "dark"])
    test(`axe finds nothing on pages that are ${mode}, in ${colorScheme}`, () =>
      withPage(mode, { colorScheme, bypassCSP: true }, async (page, server) => {
        assert.deepEqual(await faults(page, server), []);
      }));
