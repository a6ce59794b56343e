// Large installations: a topology of a thousand policies is read, searched, paged and drawn while a person waits.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, withPage } from "./browser.mjs";

/** Milliseconds, on a machine that is busy with other tests; alone each step takes a fraction of a second. */
const MOST = 3000;
let browser;
before(async () => {
  browser = await launch();
});
after(() => browser.close());

test("a topology of a thousand policies stays usable", () =>
  withPage(browser, {}, async (page, server) => {
    server.world.policies = 1000;
    const took = {};
    const timed = async (name, act) => {
      const begun = performance.now();
      await act();
      took[name] = Math.round(performance.now() - begun);
    };
    await page.goto(server.address, { waitUntil: "networkidle" });
    const main = page.locator("main");
    await timed("open", async () => {
      await page.getByRole("link", { name: "Topology" }).click();
      await main.getByText("3,001 objects").waitFor();
    });
    // Many objects begin with the table, by pages.
    assert.equal(await main.locator("tbody tr").count(), 100);
    await timed("page", async () => {
      await main.getByRole("button", { name: "Next" }).click();
      await main.getByText("Page 2 of 31").waitFor();
    });
    await timed("draw", async () => {
      await main.getByRole("button", { name: "Picture" }).click();
      await main.locator("g.node").first().waitFor();
    });
    const nodes = await main.locator("g.node").count();
    assert.ok(nodes > 200 && nodes <= 600, `${nodes} nodes are drawn`);
    await main.getByText("200 of 3,001").waitFor();
    await timed("search", async () => {
      await main.getByLabel("Search").fill("orders-777");
      await main.getByText("3 objects").waitFor();
    });
    assert.equal(await main.locator("g.node").count(), 4, "the three that fit, and the gateway beside them");
    await main.getByRole("button", { name: "Table" }).click();
    assert.equal(await main.locator("tbody tr").count(), 3);
    for (const [name, time] of Object.entries(took)) assert.ok(time <= MOST, `${name} takes ${time} ms`);
  }));
