// Requests for Credentials in the browser: asked with a key pair that stays, answered by what is shown, and the key
// taken once. The fake of the API encrypts as the operator does and looks at everything that the browser sends.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { launch, withPage } from "./browser.mjs";
import { answered, encryptedTo } from "../fixture/requests.mjs";

const axe = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
let browser;
before(async () => {
  browser = await launch();
});
after(() => browser.close());
const full = (act, options = {}) => withPage(browser, options, act);
const button = (at, name) => at.getByRole("button", { name, exact: true });

/** Presses a control by keyboard. */
async function press(page, control) {
  await control.focus();
  await page.keyboard.press("Enter");
}

const stored = (server, name) => server.world.asked.find((each) => each.name === name);
const sent = (server, path) =>
  server.world.requests.filter((each) => each.method === "POST" && each.path === path).map((each) => each.text);

/** The key pairs of this browser, and whether one of them can be exported. */
const pairs = (page) =>
  page.evaluate(
    () =>
      new Promise((resolve, reject) => {
        const request = indexedDB.open("idm", 1);
        request.onupgradeneeded = () => request.result.createObjectStore("key-pairs", { keyPath: "id" });
        request.onerror = () => reject(request.error);
        request.onsuccess = () => {
          const all = request.result.transaction("key-pairs").objectStore("key-pairs").getAll();
          all.onsuccess = async () => {
            request.result.close();
            const told = [];
            for (const { id, key } of all.result) {
              const taken = await crypto.subtle.exportKey("jwk", key).then(
                () => true,
                () => false,
              );
              told.push({ id, type: key.type, extractable: key.extractable || taken });
            }
            resolve(told);
          };
        };
      }),
  );

/** Fills in the form and asks, by keyboard. */
async function ask(page, server, name = "nightly") {
  await page.goto(`${server.address}/my-access/new?ns=shop`, { waitUntil: "networkidle" });
  await page.getByRole("textbox", { name: "Name", exact: true }).fill(name);
  await page.getByLabel("Purpose").fill("nightly export of orders");
  await page.getByRole("checkbox", { name: "orders", exact: true }).focus();
  await page.keyboard.press("Space");
  await page.getByLabel("Roles").fill("order-reader");
  await page.getByLabel("Plan labels").fill("plan=gold");
  await press(page, button(page, "Ask"));
}

test("a key is asked for, taken once in this browser, and its key pair is forgotten", () =>
  full(async (page, server) => {
    await ask(page, server);
    await page.getByRole("heading", { level: 1, name: "nightly" }).waitFor();
    await page.getByText("Waits for an answer").first().waitFor();
    const [body] = sent(server, "requests/shop").map(JSON.parse);
    const fields = ["access", "expireTime", "labels", "name", "purpose", "recipient", "roles"];
    assert.deepEqual(Object.keys(body).sort(), fields);
    assert.deepEqual(body.access, { policies: ["orders"] });
    assert.deepEqual(body.labels, [{ name: "plan", value: "gold" }]);
    assert.deepEqual(Object.keys(body.recipient).sort(), ["crv", "kty", "x", "y"]);
    const { x, y } = body.recipient;
    assert.deepEqual(await pairs(page), [{ id: `${x}.${y}`, type: "private", extractable: false }]);

    const request = answered(stored(server, "nightly"), "Approved", "omar");
    await page.reload();
    await press(page, button(page, "Take the key"));
    const dialog = page.getByRole("dialog", { name: "The key of nightly" });
    assert.equal(await dialog.locator(".secret code").innerText(), request.key);
    await dialog.getByText("Calls with this key").click();
    await dialog.getByLabel("Address of the API").fill("https://api.shop.example/it's");
    const line = `curl -H 'X-Api-Key: ${request.key}' 'https://api.shop.example/it'\\''s'`;
    assert.equal(await dialog.getByRole("region", { name: "curl" }).innerText(), line);
    const programs = await dialog.getByRole("region", { name: /Python|JavaScript/ }).allInnerTexts();
    assert.ok(programs.length === 2 && programs.every((each) => !each.includes(request.key)));
    await press(page, button(dialog, "I have it"));
    await dialog.waitFor({ state: "detached" });
    await page.getByText("Key received").first().waitFor();
    assert.deepEqual(sent(server, "requests/shop/nightly/received").map(JSON.parse), [{ uid: request.uid }]);
    assert.deepEqual(await pairs(page), []);
    const kept = await page.evaluate(() =>
      JSON.stringify([document.documentElement.outerHTML, location.href, localStorage, sessionStorage, history.state]),
    );
    assert.ok(!kept.includes(request.key), "the key leaves the page with its dialog");
    for (const { text } of server.world.requests) assert.ok(!/"d":|PRIVATE|idm_/.test(text), "no secret is sent");
  }));

test("a key that was not confirmed can be taken again, until then", () =>
  full(async (page, server) => {
    await ask(page, server);
    await page.getByRole("heading", { level: 1, name: "nightly" }).waitFor();
    const request = answered(stored(server, "nightly"), "Approved", "omar");
    await page.reload();
    for (let turn = 0; turn < 2; turn += 1) {
      await press(page, button(page, "Take the key"));
      assert.equal(await page.getByRole("dialog").locator(".secret code").innerText(), request.key);
      await press(page, button(page.getByRole("dialog"), "Not yet"));
      await page.getByRole("dialog").waitFor({ state: "detached" });
      assert.ok(!(await page.content()).includes(request.key));
    }
    assert.equal((await pairs(page)).length, 1);
    assert.equal(sent(server, "requests/shop/nightly/received").length, 0);
  }));

test("what is not the key that was made is not shown", () =>
  full(async (page, server) => {
    await ask(page, server);
    await page.getByRole("heading", { level: 1, name: "nightly" }).waitFor();
    const request = answered(stored(server, "nightly"), "Approved", "omar");
    const jwk = JSON.parse(request.recipient);
    request.encryptedKey = encryptedTo(jwk, "idm_planted");
    await page.reload();
    await press(page, button(page, "Take the key"));
    await page.getByText(`This is not the key ${request.made.keyId} that was made`, { exact: false }).waitFor();
    assert.ok(!(await page.content()).includes("idm_planted"));
    await press(page, button(page.getByRole("dialog"), "Close").last());
    request.encryptedKey = `${encryptedTo(jwk, request.key).slice(0, -3)}AAA`;
    await press(page, button(page, "Take the key"));
    await page.getByText("it was encrypted to another key, or was changed", { exact: false }).waitFor();
    assert.equal(await page.locator(".secret").count(), 0);
  }));

test("another browser says that it cannot open the key, and what to do", () =>
  full(async (page, server) => {
    await page.goto(`${server.address}/my-access/shop/to-take`);
    await page.getByText("The key pair of this request is not in this browser").waitFor();
    await page.getByText("withdraw this request and ask again", { exact: false }).waitFor();
    assert.equal(await button(page, "Take the key").count(), 0);
    await press(page, button(page, "Withdraw"));
    const dialog = page.getByRole("dialog", { name: "Withdraw to-take" });
    await dialog.getByText("callers with its key are refused", { exact: false }).waitFor();
    const { uid } = stored(server, "to-take");
    await press(page, button(dialog, "Withdraw"));
    await page.getByRole("heading", { level: 1, name: "My access" }).waitFor();
    assert.deepEqual(sent(server, "requests/shop/to-take/withdraw").map(JSON.parse), [{ uid }]);
    assert.equal(await page.getByRole("link", { name: "to-take" }).count(), 0);
  }));

test("every state is told, with what to do", () =>
  full(async (page, server) => {
    const states = {
      waiting: ["Waits for an answer", "It has to be answered by"],
      refused: ["Rejected", "omar rejected it: too broad <img"],
      "too-late": ["Expired", "Nobody answered in time"],
      wrong: ["Cannot be fulfilled", "must lie in the future <img"],
      "open-door": ["Not protected", "no key is made"],
      stale: ["Answer does not fit", "another content"],
      "taken-name": ["Name is taken", "ask under another name"],
      "on-its-way": ["Key is being made", "comes in a moment"],
      done: ["Key received", "If it is lost"],
      left: ["Key not taken", "If you have the key, it works"],
      "new-one": ["Not read yet", "reads it in a moment"],
    };
    await page.goto(`${server.address}/my-access`);
    for (const [name, [word]] of Object.entries(states)) {
      const row = page.getByRole("row").filter({ has: page.getByRole("link", { name, exact: true }) });
      await row.getByText(word, { exact: true }).waitFor();
    }
    for (const [name, [word, help]] of Object.entries(states)) {
      await page.goto(`${server.address}/my-access/shop/${name}`);
      const notice = page.locator("main .notice").filter({ hasText: word });
      await notice.getByText(help, { exact: false }).first().waitFor();
      assert.equal(await button(page, "Take the key").count(), 0, name);
    }
    assert.equal(await page.locator("img[src=x]").count(), 0);
  }));

test("a refused request leaves no key pair, and one whose fate is unknown keeps it", () =>
  full(async (page, server) => {
    await ask(page, server, "waiting");
    await page.getByText("CredentialRequest 'waiting' exists.").waitFor();
    assert.deepEqual(await pairs(page), []);
    await page.getByRole("textbox", { name: "Name", exact: true }).fill("free");
    await page.route("**/api/v1/requests/shop", async (route) => {
      if (route.request().method() === "POST") await route.abort();
      else await route.fallback();
    });
    await press(page, button(page, "Ask"));
    await page.getByText("The Manager does not answer", { exact: false }).waitFor();
    assert.equal((await pairs(page)).length, 1);
    assert.equal(await page.getByLabel("Purpose").inputValue(), "nightly export of orders");
    await page.unroute("**/api/v1/requests/shop");
    await page.getByLabel("Plan labels").fill("gold");
    await press(page, button(page, "Ask"));
    await page.getByText("gold is not of the form name=value").waitFor();
    assert.equal(sent(server, "requests/shop").length, 1, "what is wrong is not sent");
    await page.getByLabel("Plan labels").fill("a/b=gold");
    await page.route("**/api/v1/requests/shop", (route) => {
      const error = { code: "Refused", message: "no prefix", field: "spec.credential.labels[0].name" };
      return route.fulfill({ status: 422, json: { error } });
    });
    await press(page, button(page, "Ask"));
    await page.locator(".field.wrong", { has: page.getByLabel("Plan labels") }).getByText("no prefix").waitFor();
  }));

test("a session that ended costs no form, and other pages do not either", () =>
  full(async (page, server) => {
    await page.goto(`${server.address}/my-access/new?ns=shop`, { waitUntil: "networkidle" });
    await page.getByLabel("Purpose").fill("half a form");
    await press(page, page.getByRole("link", { name: "My access" }).first());
    await press(page, button(page, "Ask for a credential"));
    assert.equal(await page.getByLabel("Purpose").inputValue(), "half a form");
    await page.getByRole("textbox", { name: "Name", exact: true }).fill("later");
    await page.getByRole("textbox", { name: "Policies" }).fill("orders");
    server.world.signedIn = false;
    await press(page, button(page, "Ask"));
    const again = page.getByRole("dialog", { name: "Your session has ended" });
    await again.getByLabel("One-time code").fill("4F7-K2");
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { level: 1, name: "later" }).waitFor();
    assert.equal(stored(server, "later").purpose, "half a form");
  }));

test("who may see no policy writes names; who may not ask is told what is missing", () =>
  full(async (page, server) => {
    await page.route("**/api/v1/objects/IdentityPolicy*", (route) =>
      route.fulfill({ status: 403, json: { error: { code: "Forbidden", message: "no" } } }),
    );
    server.world.denied.add("create CredentialRequest");
    await page.goto(`${server.address}/my-access/new?ns=shop`, { waitUntil: "networkidle" });
    assert.equal(await page.getByText("Policies that you may see").count(), 0);
    assert.equal(await page.getByRole("alert").count(), 0);
    await button(page, "Ask").focus();
    await page.getByRole("tooltip").filter({ hasText: "create CredentialRequest in shop" }).waitFor();
    await page.keyboard.press("Enter");
    assert.equal(sent(server, "requests/shop").length, 0);
  }));

test("several are approved at once, each by the hash of what is shown; who was faster is told", () =>
  full(async (page, server) => {
    await page.goto(`${server.address}/requests`, { waitUntil: "networkidle" });
    assert.equal(await page.getByRole("link", { name: "answered" }).count(), 0, "answered ones are left out");
    await press(page, button(page, "Choose all that can be answered"));
    await page.getByText("2 chosen").waitFor();
    await press(page, button(page, "Approve"));
    const dialog = page.getByRole("dialog", { name: "Approve 2 requests" });
    await dialog.getByText("its hash was computed here", { exact: false }).nth(1).waitFor();
    answered(stored(server, "batch"), "Rejected", "olga", "no budget");
    await press(page, button(dialog, "Approve"));
    await dialog.getByText("Not answered: olga rejected it meanwhile").waitFor();
    await dialog.getByText("1 of 2 is answered").waitFor();
    await dialog.getByRole("region", { name: "reports-eu" }).getByText("Approved", { exact: true }).waitFor();
    const request = stored(server, "reports-eu");
    assert.equal(request.decision, "Approved");
    assert.deepEqual(sent(server, "requests/shop/reports-eu/approve").map(JSON.parse), [{ hash: request.hash }]);
    await press(page, button(dialog, "Close").last());
    await page.getByRole("link", { name: "reports-eu" }).waitFor({ state: "detached" });
    assert.equal(await page.locator("img[src=x]").count(), 0);
  }));

test("a rejection needs a reason, which the requester reads", () =>
  full(async (page, server) => {
    await page.goto(`${server.address}/requests/billing/batch`);
    await press(page, button(page, "Reject"));
    const dialog = page.getByRole("dialog", { name: "Reject 1 request" });
    await press(page, button(dialog, "Reject"));
    assert.equal(sent(server, "requests/billing/batch/reject").length, 0);
    await dialog.getByLabel("Reason").fill("use the shared one");
    await page.keyboard.press("Enter");
    await dialog.getByText("1 of 1 is answered").waitFor();
    const { hash } = stored(server, "batch");
    const [body] = sent(server, "requests/billing/batch/reject").map(JSON.parse);
    assert.deepEqual(body, { hash, reason: "use the shared one" });
    await press(page, button(dialog, "Close").last());
    await page.getByText("ana@shop.example rejected it: use the shared one").waitFor();
  }));

test("what the hash is not of cannot be approved, but rejected", () =>
  full(async (page, server) => {
    stored(server, "batch").hash = createHash("sha256").update("another").digest("hex");
    await page.goto(`${server.address}/requests/billing/batch`);
    await page.getByText("The hash is not that of what you see", { exact: false }).waitFor();
    await press(page, button(page, "Approve"));
    const dialog = page.getByRole("dialog");
    await dialog.getByText("The hash is not that of what you see", { exact: false }).waitFor();
    assert.equal(await button(dialog, "Approve").isDisabled(), true);
    await press(page, button(dialog, "Cancel"));
    await press(page, button(page, "Reject"));
    assert.equal(await button(page.getByRole("dialog"), "Reject").isDisabled(), false);
  }));

test("who may not answer is told why at the controls", () =>
  full(async (page, server) => {
    server.world.denied.add("create Credential");
    await page.goto(`${server.address}/requests`, { waitUntil: "networkidle" });
    const told = async (name, why) => {
      await page.getByRole("button", { name, exact: true }).focus();
      await page.getByRole("tooltip").filter({ hasText: why }).first().waitFor();
    };
    await told("Approve unread", "it cannot be answered now");
    await told("Reject unread", "it cannot be answered now");
    await told("Approve batch", "Needs the permission create Credential in billing");
    await page.keyboard.press("Enter");
    assert.equal(await page.getByRole("dialog").count(), 0);
    // To reject, one need not be able to create.
    await press(page, page.getByRole("button", { name: "Reject batch", exact: true }));
    await page.getByRole("dialog", { name: "Reject 1 request" }).waitFor();
  }));

test("a folder has no requests, and that is no error", () =>
  full(async (page, server) => {
    server.world.asked = null;
    for (const path of ["/my-access", "/requests", "/my-access/shop/a"]) {
      await page.goto(server.address + path, { waitUntil: "networkidle" });
      await page.getByText("There are no requests here").waitFor();
      await page.getByText("in a folder write a Credential", { exact: false }).waitFor();
      assert.equal(await page.getByRole("alert").count(), 0, path);
    }
  }));

/** The findings of axe in the dialog that is open. */
async function faults(page) {
  await page.addScriptTag({ path: axe });
  const { violations } = await page.evaluate(() => globalThis.axe.run("dialog[open]"));
  return violations.map((each) => `${each.id} at ${each.nodes.map((node) => node.target).join(", ")}`);
}

for (const colorScheme of ["light", "dark"])
  test(`axe finds nothing in the dialogs, and they fit a small screen, in ${colorScheme}`, () =>
    full(
      async (page, server) => {
        const fits = async () =>
          assert.ok((await page.evaluate(() => document.querySelector("dialog[open]").scrollWidth)) <= 360);
        await page.goto(`${server.address}/requests/shop/reports-eu`);
        await press(page, button(page, "Approve"));
        await page.getByRole("dialog").getByText("its hash was computed here", { exact: false }).waitFor();
        assert.deepEqual(await faults(page), []);
        await fits();
        await ask(page, server);
        await page.getByRole("heading", { level: 1, name: "nightly" }).waitFor();
        answered(stored(server, "nightly"), "Approved", "omar");
        await page.reload();
        await press(page, button(page, "Take the key"));
        await page.getByRole("dialog").getByText("Calls with this key").click();
        await page.getByRole("region", { name: "Python" }).waitFor();
        assert.deepEqual(await faults(page), []);
        await fits();
      },
      { colorScheme, bypassCSP: true, viewport: { width: 360, height: 740 } },
    ));

for (const [locale, words] of [
  ["de-DE", ["Mein Zugang", "Wartet auf Antwort", "Zugang beantragen"]],
  ["tr-TR", ["Erişimim", "Yanıt bekliyor", "Erişim bilgisi talep et"]],
])
  test(`the pages speak ${locale}`, () =>
    full(
      async (page, server) => {
        await page.goto(`${server.address}/my-access`);
        for (const word of words) await page.locator("main").getByText(word, { exact: true }).first().waitFor();
      },
      { locale },
    ));
