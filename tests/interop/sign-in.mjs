// A real browser (Chromium) and a certified OpenID provider (`oidc-provider`), neither of which knows anything of us,
// against the sign-in of a gateway. The provider's address goes to standard output; the gateway's comes on standard input.
import assert from "node:assert";
import http from "node:http";
import readline from "node:readline";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [, , libraries] = process.argv;
const require = createRequire(pathToFileURL(libraries + "/"));
const { default: Provider } = await import(pathToFileURL(require.resolve("oidc-provider")));
const { chromium } = require("playwright-core");

const secret = process.env.CLIENT_SECRET;
const asked = [];
let answer = (_, response) => response.writeHead(503).end();
const server = http.createServer((request, response) => {
  asked.push(`${request.method} ${request.url.split("?")[0]}`);
  answer(request, response);
});
await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
const issuer = `http://localhost:${server.address().port}`;
console.log(issuer);
const lines = readline.createInterface({ input: process.stdin });
const gateway = await new Promise((line) => lines.once("line", line));

const base = `${gateway}/_idm`;
const provider = new Provider(issuer, {
  clients: [{
    client_id: "shop", client_secret: secret, redirect_uris: [`${base}/callback/idp`], post_logout_redirect_uris: [`${base}/logged-out`],
    backchannel_logout_uri: `${base}/back-channel-logout/idp`, backchannel_logout_session_required: true,
    grant_types: ["authorization_code", "refresh_token"], response_types: ["code"],
  }],
  cookies: { keys: ["only for this test"] },
  claims: { openid: ["sub"], profile: ["name"], email: ["email", "email_verified"] },
  features: { devInteractions: { enabled: true }, backchannelLogout: { enabled: true } },
  issueRefreshToken: async () => true,
  ttl: { AccessToken: 3, Session: 3600, Grant: 3600, Interaction: 600, IdToken: 600, RefreshToken: 3600 },
  findAccount: async (_, id) => ({ accountId: id, claims: async () => ({ sub: id, name: `${id} Example`, email: `${id}@shop.example`, email_verified: true }) }),
});
// The provider calls us back over plain http on this machine, which it would not do by itself.
answer = provider.callback();

const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const steps = [];
const step = async (name, act) => {
  await act();
  steps.push(name);
};
const signIn = async (page, user) => {
  await page.waitForURL(`${issuer}/interaction/**`);
  await page.fill("input[name=login]", user);
  await page.fill("input[name=password]", "anything");
  await page.click("button[type=submit]");
  // Consent is asked for once.
  await page.waitForURL((url) => url.href.startsWith(gateway) || url.href.includes("/interaction/"));
  if (page.url().includes("/interaction/")) await page.click("button[type=submit]");
};
const at = (page, path) => page.waitForURL(`${gateway}${path}`);
const fetched = (page, path = "/orders") =>
  page.evaluate(async (path) => {
    const answer = await fetch(path, { redirect: "manual" });
    return { status: answer.status, type: answer.type, text: answer.type === "opaqueredirect" ? "" : await answer.text() };
  }, path);
const refreshes = () => asked.filter((one) => one === "POST /token").length;

try {
  const people = await browser.newContext();
  const page = await people.newPage();
  await step("a deep link leads to the provider and back", async () => {
    await page.goto(`${gateway}/orders?day=1&x=%2F`);
    await signIn(page, "ana");
    await at(page, "/orders?day=1&x=%2F");
    assert.match(await page.textContent("body"), /ok/);
    const cookies = (await people.cookies(gateway)).filter((cookie) => cookie.name.startsWith("OIDC_"));
    assert.deepEqual(cookies.map((cookie) => cookie.name).sort(), ["OIDC_LOGIN", "OIDC_SESSION"]);
    for (const cookie of cookies) assert.ok(cookie.httpOnly && cookie.sameSite === "Lax" && cookie.value.length < 256, JSON.stringify(cookie));
    assert.equal(await page.evaluate(() => document.cookie), "");
    assert.ok(asked.includes("POST /request"), "the request was pushed: " + asked.join(", "));
  });
  await step("tokens are refreshed silently, once for many", async () => {
    await new Promise((later) => setTimeout(later, 3500));
    const before = refreshes();
    const statuses = await Promise.all(Array.from({ length: 12 }, () => fetched(page)));
    assert.deepEqual(new Set(statuses.map((one) => one.status)), new Set([200]));
    assert.equal(refreshes() - before, 1);
  });
  await step("signing out leads over the provider to our page", async () => {
    await page.goto(`${gateway}/_idm/logout`);
    await page.waitForURL(`${issuer}/session/end**`);
    await page.click("button[name=logout]");
    await page.waitForURL((url) => url.href.startsWith(`${base}/logged-out`));
    assert.match(await page.textContent("h1"), /signed out/);
    await page.goto(`${gateway}/orders`);
    await page.waitForURL(`${issuer}/interaction/**`);
  });
  await step("two tabs come back to their own pages", async () => {
    const tabs = await browser.newContext();
    const [one, two] = [await tabs.newPage(), await tabs.newPage()];
    await one.goto(`${gateway}/tab/1`);
    await two.goto(`${gateway}/tab/2`);
    await signIn(one, "bob");
    await at(one, "/tab/1");
    await signIn(two, "bob");
    await at(two, "/tab/2");
    assert.equal((await fetched(one)).status, 200);
    assert.equal((await fetched(two)).status, 200);
    await tabs.close();
  });
  await step("twelve scripts without a session get 401 and no cookie", async () => {
    const fresh = await browser.newContext();
    const page = await fresh.newPage();
    await page.goto(`${gateway}/orders`);
    await signIn(page, "eve");
    await at(page, "/orders");
    await fresh.clearCookies();
    const answers = await Promise.all(Array.from({ length: 12 }, () => fetched(page)));
    for (const { status, text } of answers) {
      assert.equal(status, 401);
      assert.equal(JSON.parse(text).signIn, "/_idm");
    }
    assert.deepEqual(await fresh.cookies(), []);
    await fresh.close();
  });
  await step("the provider ends our session behind the browser's back", async () => {
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(`${gateway}/orders`);
    await signIn(page, "cem");
    await at(page, "/orders");
    const elsewhere = await context.newPage();
    await elsewhere.goto(`${issuer}/session/end`);
    await elsewhere.click("button[name=logout]");
    await elsewhere.waitForURL(`${issuer}/session/end/success**`);
    const start = Date.now();
    let status;
    while ((status = (await fetched(page)).status) !== 401) assert.ok(Date.now() - start < 5000, `still ${status}`);
    await context.close();
  });
  await step("a person who declines is told so, with a number", async () => {
    const context = await browser.newContext({ locale: "de-DE" });
    const page = await context.newPage();
    await page.goto(`${gateway}/orders`);
    await page.waitForURL(`${issuer}/interaction/**`);
    await page.click("text=Cancel");
    await page.waitForURL(`${base}/callback/**`);
    assert.equal(await page.textContent("h1"), "Sie wurden nicht angemeldet");
    assert.match(await page.textContent("code"), /^[0-9A-Z]{26}$/);
    assert.equal(await page.evaluate(() => document.documentElement.lang), "de");
    await context.close();
  });
  await step("everything works without a script", async () => {
    const context = await browser.newContext({ javaScriptEnabled: false });
    const page = await context.newPage();
    await page.goto(`${gateway}/orders`);
    await signIn(page, "dan");
    await at(page, "/orders");
    await page.goto(`${base}/logout`, { referer: "https://elsewhere.example/" });
    await context.close();
  });
  await step("nothing of ours is refused by its own policy", async () => {
    const context = await browser.newContext();
    const page = await context.newPage();
    const complaints = [];
    page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
    await page.goto(`${base}/logged-out`);
    const shown = await page.evaluate(() => getComputedStyle(document.querySelector("main")).borderRadius);
    assert.equal(shown, "8px", "the style is in force");
    assert.deepEqual(complaints.filter((text) => !text.includes("favicon")), []);
    if (process.env.SCREENSHOT) await page.screenshot({ path: process.env.SCREENSHOT });
    await context.close();
  });
  await step("people of every kind can use our pages", async () => {
    for (const colorScheme of ["light", "dark"]) {
      const context = await browser.newContext({ bypassCSP: true, colorScheme });
      const page = await context.newPage();
      for (const path of ["/_idm/logged-out", "/_idm/logout", "/_idm/callback/idp", "/_idm?at=nobody"]) {
        await page.goto(gateway + path, { referer: "https://elsewhere.example/" });
        await page.addScriptTag({ path: require.resolve("axe-core") });
        const { violations } = await page.evaluate(() => axe.run());
        assert.deepEqual(violations.map((one) => `${path} ${colorScheme}: ${one.id} ${one.nodes.map((node) => node.html)}`), []);
        // With the keyboard alone.
        await page.keyboard.press("Tab");
        const focused = await page.evaluate(() => document.activeElement?.tagName);
        assert.ok(["A", "BUTTON", "BODY"].includes(focused), focused);
      }
      await context.close();
    }
  });
} catch (error) {
  console.error(`after: ${steps.join("; ")}\n`, error, asked.slice(-20));
  process.exit(1);
}
await browser.close();
console.log(`done: ${steps.length} steps`);
process.exit(0);
