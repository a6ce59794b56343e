// A person with the real server: signs in by keyboard, reads every page, and makes a key that the gateway then takes.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

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
];

/** Starts `idm demo` on free ports; waits for its addresses and its code. */
async function demo(idm, state) {
  const any = "127.0.0.1:0";
  const child = spawn(idm, ["demo", "--listen", any, "--echo", any, "--idp", any, "--manager", any], {
    env: { ...process.env, IDM_STATE_DIR: state },
    stdio: ["ignore", "pipe", "ignore"],
  });
  let gateway;
  for await (const line of createInterface({ input: child.stdout })) {
    gateway = /^Gateway (\S+)/.exec(line)?.[1] ?? gateway;
    const found = /^Manager +(\S+) +code (\S+)/.exec(line);
    if (found) return { child, gateway, manager: found[1], code: found[2] };
  }
  throw new Error("the demo ended before it said where it is");
}

export async function journey(idm, opened) {
  const state = await mkdtemp(join(tmpdir(), "idm-manager-"));
  const { child, gateway, manager, code } = await demo(idm, state);
  try {
    const of = await opened({}, manager);
    await of.page.goto(manager);
    await of.page.getByLabel("Code", { exact: false }).first().waitFor();
    await of.page.locator("input.code-input, .code-input input").first().focus();
    await of.page.keyboard.type(code);
    await of.page.keyboard.press("Enter");
    await of.page.getByRole("navigation").first().waitFor();
    for (const path of PAGES) {
      await of.page.goto(manager + path, { waitUntil: "domcontentloaded" });
      await of.page.locator("main h1").first().waitFor();
      await of.page.locator("[aria-busy=true], .skeleton").first().waitFor({ state: "detached" });
      assert.equal(await of.page.locator("main [role=alert]").count(), 0, `${path} shows no error`);
    }
    await makesKey(of.page, manager, gateway);
    assert.deepEqual(of.seen, { errors: [], violations: [], planted: [] });
    await of.close();
  } finally {
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGTERM");
    await ended;
    await rm(state, { recursive: true, force: true });
  }
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
