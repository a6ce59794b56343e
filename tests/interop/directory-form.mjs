// A real browser (Chromium) at the form of a directory. What the gateway's policy of content refuses, the browser
// reports to its console.
import assert from "node:assert";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [, , libraries, gateway] = process.argv;
const require = createRequire(pathToFileURL(libraries + "/"));
const { chromium } = require("playwright-core");
const { PASSWORD: password, WRONG_PASSWORD: wrong } = process.env;

const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const steps = [];
const step = async (name, act) => {
  await act();
  steps.push(name);
};
const at = (page, path) => page.waitForURL(`${gateway}${path}`);
const send = async (page, user, secret) => {
  await page.getByLabel("User name").fill(user);
  await page.getByLabel("Password").fill(secret);
  await page.getByRole("button").click();
};
const form = /\/_idm\/login\/corp/;

try {
  const people = await browser.newContext({ locale: "en-GB" });
  const page = await people.newPage();
  const complaints = [];
  let first;
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  await step("a deep link leads to the form, which has the focus", async () => {
    await page.goto(`${gateway}/orders?day=1&x=%2F`);
    assert.match(page.url(), form);
    first = page.url();
    assert.equal(await page.evaluate(() => document.activeElement.name), "username");
    assert.equal(await page.getAttribute("input[type=password]", "autocomplete"), "current-password");
  });
  await step("a wrong password is told, and costs no more than typing it again", async () => {
    await send(page, "ana", wrong);
    await page.getByRole("alert").waitFor();
    assert.equal(await page.inputValue("input[name=username]"), "ana");
    assert.equal(await page.inputValue("input[type=password]"), "");
    assert.equal(await page.evaluate(() => document.activeElement.name), "password");
    assert.ok(!(await page.content()).includes(wrong));
  });
  await step("the right one leads to the page that was wanted", async () => {
    await page.getByLabel("Password").fill(password);
    await page.keyboard.press("Enter");
    await at(page, "/orders?day=1&x=%2F");
    assert.match(await page.textContent("body"), /ok/);
    assert.equal(await page.evaluate(() => document.cookie), "");
  });
  await step("the form that was used is not taken again", async () => {
    await page.goto(first);
    await send(page, "ana", password);
    await page.waitForURL((url) => url.href !== first);
    await page.goto(`${gateway}/orders`);
    await at(page, "/orders");
  });
  await step("signing out leads to our page, and the next visit to the form", async () => {
    await page.goto(`${gateway}/_idm/logout`);
    await page.waitForURL((url) => url.pathname === "/_idm/logged-out");
    await page.goto(`${gateway}/orders`);
    assert.match(page.url(), form);
  });
  await step("a link of another site asks before it signs anybody out", async () => {
    await send(page, "ana", password);
    await at(page, "/orders");
    await page.route("http://elsewhere.test/", (route) => route.fulfill({ contentType: "text/html", body: `<a href="${gateway}/_idm/logout">out</a>` }));
    await page.goto("http://elsewhere.test/");
    await page.click("a");
    await page.waitForURL(`${gateway}/_idm/logout`);
    await page.getByRole("button").first().click();
    await page.waitForURL((url) => url.pathname === "/_idm/logged-out");
  });
  await step("everything works without a script, and in German", async () => {
    const context = await browser.newContext({ javaScriptEnabled: false, locale: "de-DE" });
    const page = await context.newPage();
    await page.goto(`${gateway}/orders`);
    await page.fill("input[name=username]", "bob@corp.test");
    await page.fill("input[name=password]", password);
    await page.click("button");
    await at(page, "/orders");
    await context.close();
  });
  await step("people of every kind can use the form", async () => {
    for (const colorScheme of ["light", "dark"]) {
      const context = await browser.newContext({ bypassCSP: true, colorScheme, locale: "en-GB" });
      const page = await context.newPage();
      await page.goto(`${gateway}/orders`);
      for (const state of ["fresh", "refused"]) {
        if (state === "refused") await send(page, "bob", wrong);
        await page.addScriptTag({ path: require.resolve("axe-core") });
        const { violations } = await page.evaluate(() => axe.run());
        assert.deepEqual(violations.map((one) => `${state} ${colorScheme}: ${one.id} ${one.nodes.map((node) => node.html)}`), []);
      }
      await context.close();
    }
    // The console tells of answers that are errors, too: a refused form is one.
    assert.deepEqual(complaints.filter((text) => !text.includes("favicon") && !text.includes("401")), []);
  });
} catch (error) {
  console.error(`after: ${steps.join("; ")}\n`, error);
  process.exit(1);
}
await browser.close();
console.log(`done: ${steps.length} steps`);
process.exit(0);
