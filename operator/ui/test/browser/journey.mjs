// A person with the real server: signs in by keyboard, reads every page, and makes a key that the gateway then takes.
import assert from "node:assert/strict";
import { withDemo, signIn } from "./demo.mjs";

const PAGES = [
  "/",
  "/standards",
  "/policies",
  "/policies/default/orders",
  "/policies/default/orders?tab=form",
  "/policies/default/orders?tab=yaml",
  "/policies/default/orders?tab=effective",
  "/credentials",
  "/federations",
  "/bindings",
  "/matrix",
  "/audit",
  "/explain",
  "/decoder",
  "/topology",
  "/my-access",
  "/requests",
];

export async function journey(idm, opened) {
  await withDemo(idm, async ({ gateway, manager, code }) => {
    const of = await opened({}, manager);
    await signIn(of.page, manager, code);
    for (const path of PAGES) {
      await of.page.goto(manager + path, { waitUntil: "domcontentloaded" });
      await of.page.locator("main h1").first().waitFor();
      await of.page.locator("[aria-busy=true], .skeleton").first().waitFor({ state: "detached" });
      assert.equal(await of.page.locator("main [role=alert]").count(), 0, `${path} shows no error`);
    }
    await makesKey(of.page, manager, gateway);
    assert.deepEqual(of.seen, { errors: [], violations: [], planted: [] });
    await of.close();
  });
}

async function makesKey(page, manager, gateway) {
  await page.goto(`${manager}/credentials`);
  await page.getByRole("button", { name: "Create", exact: true }).first().click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Name", { exact: false }).first().fill("from-browser");
  await dialog.getByRole("button", { name: "Create key" }).click();
  const key = (
    await dialog
      .getByText(/^idm_[A-Za-z0-9_]+$/)
      .first()
      .textContent()
  ).trim();
  await dialog.getByText(/1\/1 gateways? know/).waitFor();
  const answer = await fetch(`${gateway}/orders`, { method: "POST", headers: { "X-Api-Key": key } });
  // It knows the caller, who has no role for this.
  assert.equal(answer.status, 403);
  await page.reload();
  await page.locator("main h1").first().waitFor();
  assert.ok(!(await page.content()).includes(key), "a key is shown once");
}
