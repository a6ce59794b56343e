// The real server: `idm demo` on free ports, with its state in a folder that is gone afterwards.
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

/** Starts `idm demo`; waits for its addresses and its code. */
async function started(idm, state) {
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

/** Does something with a demo: `gateway`, `manager` and `code` say where it is, `state` has its files. */
export async function withDemo(idm, act) {
  const state = await mkdtemp(join(tmpdir(), "idm-manager-"));
  const { child, ...at } = await started(idm, state);
  try {
    await act({ ...at, state });
  } finally {
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGTERM");
    await ended;
    await rm(state, { recursive: true, force: true });
  }
}

/** Signs in by keyboard. */
export async function signIn(page, manager, code) {
  await page.goto(manager);
  await page.getByLabel("Code", { exact: false }).first().waitFor();
  await page.locator("input.code-input, .code-input input").first().focus();
  await page.keyboard.type(code);
  await page.keyboard.press("Enter");
  await page.getByRole("navigation").first().waitFor();
}
