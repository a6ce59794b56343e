// Forms do more than save: a login is tried, a provider's document fills in a Federation, steps of JOSE are
// switched and previewed; and work that was begun is not begun twice.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, withPage } from "./browser.mjs";

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser.close());
const full = (act) => withPage(browser, {}, act);
const button = (at, name) => at.getByRole("button", { name, exact: true });

test("a tried login tells each step, and the password is nowhere afterwards", () =>
  full(async (page, server) => {
    await page.goto(`${server.address}/federations/shop/corp-ad`);
    for (const [password, verdict] of [
      ["wrong pony", "Refused"],
      ["correct horse", "Verified"],
    ]) {
      await page.getByLabel("User name").fill("ana");
      await page.getByLabel("Password").fill(password);
      await page.keyboard.press("Enter");
      await page.getByText(verdict, { exact: true }).waitFor();
      assert.equal(await page.getByLabel("Password").inputValue(), "");
      const kept = await page.evaluate(() =>
        JSON.stringify([document.documentElement.outerHTML, location.href, localStorage, sessionStorage]),
      );
      assert.ok(!kept.includes(password));
    }
    await page.getByText("order-reader").waitFor();
    assert.equal(await page.locator("img[src=x]").count(), 0);
    const sent = server.world.requests.filter((each) => each.path === "federations/shop/corp-ad/try");
    assert.deepEqual(
      sent.map((each) => JSON.parse(each.text).password),
      ["wrong pony", "correct horse"],
    );
  }));

test("only directories have a login to try", () =>
  full(async (page, server) => {
    await page.goto(`${server.address}/federations/shop/company`, { waitUntil: "networkidle" });
    assert.equal(await page.getByText("Try a login").count(), 0);
  }));

test("the document of a provider fills in a new Federation", () =>
  full(async (page, server) => {
    await page.goto(`${server.address}/new/Federation`);
    await page.getByText("Fill in from a provider's document").click();
    const document = page.getByLabel("Document");
    await document.fill("nonsense");
    await button(page, "Read").click();
    await page.getByText("give the JSON or the XML").waitFor();
    await document.fill('{"issuer": "https://idp.shop.example"}');
    await button(page, "Read").click();
    await button(page, "Put into the form").click();
    assert.equal(await page.getByLabel("Issuer").inputValue(), "https://idp.shop.example");
    const two = '<a><EntityDescriptor entityID="https://one"/><EntityDescriptor entityID="https://two"/></a>';
    await document.fill(two);
    await button(page, "Read").click();
    await page.getByLabel("Provider").selectOption("https://two");
    await button(page, "Read").click();
    await button(page, "Put into the form").click();
    await page.getByRole("button", { name: "YAML", exact: true }).click();
    const text = await page.getByLabel("YAML").inputValue();
    assert.match(text, /entityId: https:\/\/two/);
    assert.doesNotMatch(text, /oidc:/, "a Federation has one type");
    assert.ok(!server.world.requests.some((each) => each.method === "PUT"));
  }));

test("steps are switched on and off, and their objects are previewed", () =>
  full(async (page, server) => {
    await page.goto(`${server.address}/policies/billing/partners?tab=form`);
    await page.getByText("Signing and encryption (JOSE)").click();
    await button(page, "Add a step").click();
    const toggle = (name) => page.getByRole("checkbox", { name, exact: true });
    assert.ok((await toggle("Sign").isChecked()) && !(await toggle("Encrypt").isChecked()));
    await toggle("Encrypt").check();
    await page.getByLabel("Lifetime in seconds").fill("30");
    await button(page, "Show the preview").click();
    const preview = page.getByRole("region", { name: "Preview with a sample" });
    await preview.getByText("Encrypted, with this header").waitFor();
    await preview.getByText("2026-11").waitFor();
    await preview.getByLabel("Caller", { exact: true }).fill("bob");
    await preview.getByText("bob", { exact: true }).first().waitFor();
    await preview.getByLabel("Claims of the caller").fill("[");
    await preview.getByText("This is not a JSON object.").waitFor();
    await toggle("Encrypt").uncheck();
    await page.goto(`${server.address}/policies/billing/partners?tab=yaml`);
    const asked = server.world.requests.filter((each) => each.path === "preview").map((each) => JSON.parse(each.text));
    assert.match(asked.at(-1).draft.yaml, /expireAfterSeconds: 30/);
    assert.match(asked.at(-1).draft.yaml, /# The partners' policy: this comment must survive every edit\./);
    assert.equal(asked.at(-1).draft.version, "1");
    assert.equal(await page.locator("img[src=x]").count(), 0);
  }));

test("older records are asked for once, however often the button is pressed", () =>
  full(async (page, server) => {
    await page.goto(`${server.address}/audit`);
    const older = button(page, "Older records");
    await older.waitFor();
    await older.evaluate((each) => {
      each.click();
      each.click();
      each.click();
    });
    await page.getByText("200 records shown").waitFor();
    const asked = server.world.requests.filter((each) => each.path === "audit");
    assert.equal(asked.length, 2);
  }));
