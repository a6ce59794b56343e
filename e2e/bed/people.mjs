// A person with Chromium, Keycloak in front of them, and gateway pods behind. What has to happen in the cluster meanwhile is
// asked for on standard output (`do: …`) and answered with a line on standard input.
import assert from "node:assert";
import readline from "node:readline";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [, , libraries, gateway, keycloak] = process.argv;
const require = createRequire(pathToFileURL(libraries + "/"));
const { chromium } = require("playwright-core");
const shop = "https://shop.test", realm = "http://keycloak.idp.svc:8180";
const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const ask = async (what) => {
  console.log(`do: ${what}`);
  const { value } = await lines.next();
  assert.equal(value, "done", what);
};

const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    `--host-resolver-rules=MAP shop.test ${gateway}, MAP keycloak.idp.svc ${keycloak}`,
    // The names of the bed are nobody's outside it, and plain http between them is meant.
    "--disable-features=HttpsUpgrades,HttpsFirstBalancedModeAutoEnable",
  ],
});
const steps = [];
const step = async (name, act) => {
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  // A machine with other work takes its time; each wait is for a state all the same.
  context.setDefaultTimeout(60000);
  const page = await context.newPage();
  try {
    await act(page, context);
  } catch (error) {
    console.error(`after: ${steps.join("; ")}\nin: ${name} at ${page.url()}\n${(await page.textContent("body").catch(() => "")).slice(0, 600)}\n`, error);
    process.exit(1);
  }
  await context.close();
  steps.push(name);
};
// Chromium drops a navigation when an interface of the machine comes or goes, as those of pods do; people reload then.
const open = async (page, url) => {
  for (let attempt = 1; ; attempt++) {
    try {
      return await page.goto(url);
    } catch (error) {
      if (attempt === 5 || !String(error).includes("ERR_NETWORK_CHANGED")) throw error;
    }
  }
};
const choose = async (page, path, name) => {
  await open(page, `${shop}${path}`);
  await page.click(`text="${name}"`);
  await page.waitForURL(`${realm}/**`);
};
const prove = async (page) => {
  await page.fill("#username", "ana");
  await page.fill("#password", "ana-password");
  await page.click("#kc-login");
};
const at = (page, path) => page.waitForURL(`${shop}${path}`);
// The browser may still hold a connection to a pod that was killed a moment ago; the status is then `no answer`.
const status = (page) =>
  page.evaluate(() =>
    fetch("/orders", { redirect: "manual" }).then((answer) => answer.status, (error) => `no answer (${error})`),
  );
const signIn = async (page, path, name) => {
  await choose(page, path, name);
  await prove(page);
  await at(page, path);
};
const until = async (page, wanted) => {
  const start = Date.now();
  let found;
  while ((found = await status(page)) !== wanted) {
    assert.ok(Date.now() - start < 30000, `still ${found}, not ${wanted}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return Date.now() - start;
};

await step("a deep link, a chooser, Keycloak, and back", async (page, context) => {
  await signIn(page, "/orders?x=1", "Company login");
  assert.match(await page.textContent("body"), /ana@shop\.example/);
  const cookies = (await context.cookies(shop)).filter((cookie) => cookie.name.includes("OIDC_"));
  assert.deepEqual(cookies.map((cookie) => cookie.name).sort(), ["__Host-OIDC_LOGIN", "__Host-OIDC_SESSION"]);
  for (const cookie of cookies) assert.ok(cookie.secure && cookie.httpOnly && cookie.value.length < 256, cookie.name);
});
await step("the pods are killed while the person is at Keycloak", async (page) => {
  await choose(page, "/orders?x=2", "Company login");
  await ask("kill");
  await prove(page);
  await at(page, "/orders?x=2");
  // And once more, with the session that there is now.
  await ask("kill");
  await until(page, 200);
});
await step("Keycloak changes its keys in the middle of a session", async (page, context) => {
  await signIn(page, "/orders", "Company login");
  await ask("rotate");
  assert.equal(await status(page), 200);
  await context.clearCookies();
  await signIn(page, "/orders", "Company login");
});
await step("signing out ends Keycloak's session too", async (page) => {
  await signIn(page, "/orders", "Company login");
  await open(page, `${shop}/_idm/logout`);
  await page.waitForURL((url) => url.href.startsWith(`${shop}/_idm/logged-out`));
  await choose(page, "/orders", "Company login");
  assert.ok(await page.isVisible("#kc-login"), "Keycloak asks again");
});
await step("Keycloak ends the session behind the browser's back", async (page) => {
  await signIn(page, "/orders", "Company login");
  assert.equal(await status(page), 200);
  await ask("logout");
  console.log(`note: ended ${await until(page, 401)} ms after Keycloak was told`);
});
await step("the person is signed out everywhere from another device", async (page) => {
  await signIn(page, "/orders", "Company login");
  const other = await (await browser.newContext({ ignoreHTTPSErrors: true })).newPage();
  await signIn(other, "/orders", "Company login");
  await other.evaluate(() => fetch("/_idm/logout", { method: "POST", body: new URLSearchParams({ everywhere: "1" }), redirect: "manual" }));
  console.log(`note: ended on the other device after ${await until(page, 401)} ms`);
});
await step("SAML: encrypted for us, signed by Keycloak", async (page) => {
  await signIn(page, "/orders?x=3", "Company login by SAML");
  assert.match(await page.textContent("body"), /ana@shop\.example/);
  assert.equal(await status(page), 200);
  await open(page, `${shop}/_idm/logout`);
  await page.waitForURL((url) => url.href.startsWith(`${shop}/_idm/logged-out`));
  await choose(page, "/orders", "Company login by SAML");
  assert.ok(await page.isVisible("#kc-login"), "Keycloak asks again");
});
await step("SAML: Keycloak signs its person out here", async (page) => {
  await signIn(page, "/orders", "Company login by SAML");
  const elsewhere = await page.context().newPage();
  await open(elsewhere, `${realm}/realms/shop/protocol/openid-connect/logout`);
  await elsewhere.click("#kc-logout");
  await until(page, 401);
});
await step("an administrator ends every session", async (page) => {
  await signIn(page, "/orders", "Company login");
  assert.equal(await status(page), 200);
  await ask("end");
  console.log(`note: ended ${await until(page, 401)} ms after the Federation was changed`);
});
await browser.close();
console.log(`done: ${steps.length} steps`);
process.exit(0);
