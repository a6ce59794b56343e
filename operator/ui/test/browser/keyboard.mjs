// The keyboard alone: nothing here is clicked, and nothing is focused by a script. Every page can be walked with Tab,
// each stop is seen, nobody is caught; and the main tasks are done so from their beginning to their end.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, withPage } from "./browser.mjs";
import { PAGES, TOKEN } from "./pages.mjs";
import { ulid } from "../fixture/world.mjs";

/** More stops than any page has. */
const MOST = 500;
let browser;
before(async () => {
  browser = await launch();
});
after(() => browser.close());
const full = (act) => withPage(browser, {}, act);

/** The element that has the focus: a name for people, and whether its focus is seen. */
const focused = (page) =>
  page.evaluate(() => {
    const at = document.activeElement;
    if (!at || at === document.body) return null;
    globalThis.stops ??= new Map();
    if (!globalThis.stops.has(at)) globalThis.stops.set(at, globalThis.stops.size);
    // The field for YAML shows its focus by its frame.
    const style = getComputedStyle(at.closest(".editor") ?? at);
    // Objects of a picture show it by the line around them.
    const line = at.matches("g.node") ? parseFloat(getComputedStyle(at.querySelector("rect")).strokeWidth) : 0;
    const labels = [...(at.labels ?? [])].map((each) => each.textContent).join(" ");
    const name = at.getAttribute("aria-label") ?? (labels || at.textContent || "");
    const box = at.getBoundingClientRect();
    return {
      id: globalThis.stops.get(at),
      tag: at.tagName.toLowerCase(),
      name: name.replace(/\s+/g, " ").trim(),
      isSeen: line >= 2 || (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2),
      isOnScreen: box.width > 0 && box.height > 0 && box.bottom > 0 && box.top < innerHeight,
      isText: at.matches("textarea:not([readonly])"),
    };
  });

/** One step on. A field for YAML takes Tab for itself until Escape. */
async function step(page, at) {
  if (at?.isText) await page.keyboard.press("Escape");
  await page.keyboard.press("Tab");
  return focused(page);
}

/** Goes on with Tab until the stop has this name. */
async function to(page, name, tag) {
  let at = await focused(page);
  for (let turn = 0; turn < MOST; turn += 1) {
    const fits = at && (typeof name === "string" ? at.name === name : name.test(at.name)) && (!tag || at.tag === tag);
    if (fits) return;
    at = await step(page, at);
  }
  assert.fail(`Tab never comes to ${name}`);
}

async function press(page, name, tag) {
  await to(page, name, tag);
  await page.keyboard.press("Enter");
}

async function type(page, name, text) {
  await to(page, name);
  await page.keyboard.type(text);
}

test("every page is walked with Tab, each stop is seen, and nobody is caught", () =>
  full(async (page, server) => {
    for (const [name, path, prepare] of PAGES) {
      await page.goto(server.address + path, { waitUntil: "networkidle" });
      if (prepare) {
        await prepare(page);
        await page.evaluate(() => document.activeElement?.blur());
      }
      const wanted = await page.evaluate(() => {
        const root = document.querySelector("dialog[open]") ?? document;
        const all = root.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex='0']");
        const hidden = (each) => each.closest("details:not([open])") && each.tagName !== "SUMMARY";
        // Grids and pictures have one stop, and arrows inside.
        return [...all].filter(
          (each) => !each.disabled && each.tabIndex >= 0 && !hidden(each) && each.getClientRects().length,
        ).length;
      });
      const stops = new Map();
      let at = null;
      for (let turn = 0; turn < MOST; turn += 1) {
        const last = at?.id;
        at = await step(page, at);
        // Behind the last stop is the browser's own, and then the first one. A field for dates has several inside.
        if (at && at.id !== last && stops.has(at.id)) break;
        if (at) stops.set(at.id, at);
      }
      const unseen = [...stops.values()].filter((each) => !each.isSeen || !each.isOnScreen);
      assert.deepEqual(
        unseen.map((each) => `${each.tag} ${each.name}`),
        [],
        `${name}: focus is not seen`,
      );
      assert.ok(stops.size >= wanted * 0.98 - 1, `${name}: ${stops.size} of ${wanted} stops are reached`);
    }
  }));

test("the first stop skips to the content", () =>
  full(async (page, server) => {
    await page.goto(`${server.address}/credentials`, { waitUntil: "networkidle" });
    await page.keyboard.press("Tab");
    assert.equal((await focused(page)).name, "Skip to content");
    await page.keyboard.press("Enter");
    assert.equal(await page.evaluate(() => document.activeElement.id), "main");
    await page.keyboard.press("Tab");
    assert.ok(await page.evaluate(() => document.activeElement.closest("main") !== null));
  }));

test("a key is made", () =>
  full(async (page, server) => {
    await page.goto(`${server.address}/credentials?ns=shop`, { waitUntil: "networkidle" });
    await press(page, "Create", "button");
    await type(page, /^Name/, "by-keyboard");
    await type(page, /^Owner$/, "acme");
    await press(page, "Create key");
    await page.getByRole("dialog", { name: "by-keyboard is there" }).waitFor();
    await press(page, "I have copied it");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    assert.ok(server.world.find("Credential", "shop", "by-keyboard"));
    assert.equal((await focused(page)).name, "Create", "focus goes back to where it came from");
  }));

test("all keys of an owner are revoked", () =>
  full(async (page, server) => {
    await page.goto(`${server.address}/credentials`, { waitUntil: "networkidle" });
    await press(page, "Revoke by owner");
    await type(page, /^Owner/, "partner-3@example.com");
    await page.keyboard.press("Enter");
    await page.getByRole("button", { name: /^Revoke \d+ credentials$/ }).waitFor();
    await press(page, /^Revoke \d+ credentials$/);
    await page.getByText("Revoked", { exact: true }).last().waitFor();
    await press(page, "Close", "button");
    const revoked = server.world.requests.filter((each) => each.path.endsWith("/revoke"));
    assert.ok(revoked.length > 3 && new Set(revoked.map((each) => each.path)).size === revoked.length);
  }));

test("a token is read and verified", () =>
  full(async (page, server) => {
    await page.goto(`${server.address}/decoder`, { waitUntil: "networkidle" });
    await type(page, /^Paste a JWT/, TOKEN);
    await page.getByRole("heading", { name: "Claims" }).waitFor();
    assert.ok(!server.world.requests.some((each) => each.path === "decode"), "reading sends nothing");
    await press(page, "Verify", "button");
    await page.getByText("the token is for billing").waitFor();
  }));

test("a decision is explained, and so is a request that nobody sent", () =>
  full(async (page, server) => {
    await page.goto(`${server.address}/explain`, { waitUntil: "networkidle" });
    await type(page, /^Decision id/, ulid(394).toLowerCase());
    await page.keyboard.press("Enter");
    await page.locator("pre", { hasText: "fix:" }).first().waitFor();
    await type(page, /^URL/, "https://api.shop.example/orders");
    await page.keyboard.press("Enter");
    await page.getByText("Denied 401 NoCredentials", { exact: true }).waitFor();
  }));

test("the audit is exported as it is shown", () =>
  full(async (page, server) => {
    await page.goto(`${server.address}/audit?outcome=Denied`, { waitUntil: "networkidle" });
    for (const format of ["CSV", "JSONL"]) {
      const download = page.waitForEvent("download");
      await press(page, format, "a");
      assert.match((await download).url(), new RegExp(`outcome=Denied.*format=${format.toLowerCase()}`));
    }
  }));
