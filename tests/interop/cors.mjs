// A real browser (Chromium) with pages of two origins, of which the gateway takes one. The origin that it takes goes to
// standard output; the gateway's address and a token come on standard input.
import assert from "node:assert";
import http from "node:http";
import readline from "node:readline";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [, , libraries] = process.argv;
const require = createRequire(pathToFileURL(libraries + "/"));
const { chromium } = require("playwright-core");

const pages = async () => {
  const page = (_, response) => response.setHeader("content-type", "text/html").end("<body>page</body>");
  const server = http.createServer(page);
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  return server;
};
const [listed, other] = [await pages(), await pages()];
const origin = (server) => `http://localhost:${server.address().port}`;
console.log(origin(listed));
const lines = readline.createInterface({ input: process.stdin });
const [gateway, token] = (await new Promise((line) => lines.once("line", line))).split(" ");

const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: [
    ...["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"],
    ...["--disable-background-networking", "--disable-component-update"],
  ],
});
let steps = 0;
const step = async (act) => {
  await act();
  steps += 1;
};
const fetched = (page, path, settings) =>
  page.evaluate(
    async ([url, settings]) => {
      try {
        const answer = await fetch(url, settings);
        const read = (name) => answer.headers.get(name);
        const [total, id, challenge] = ["x-total", "x-decision-id", "www-authenticate"].map(read);
        return { status: answer.status, text: await answer.text(), total, id, challenge };
      } catch (error) {
        return { error: String(error) };
      }
    },
    [gateway + path, settings],
  );

try {
  const page = await browser.newPage();
  await page.goto(origin(listed));
  const bearer = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
  await step(async () => {
    const answer = await fetched(page, "/orders", { method: "PUT", headers: bearer, body: "{}" });
    const { id, ...rest } = answer;
    assert.deepEqual(rest, { status: 200, text: '{"n":"3"}', total: "3", challenge: null });
  });
  await step(async () => {
    const answer = await fetched(page, "/orders", {});
    assert.equal(answer.status, 401, JSON.stringify(answer));
    assert.match(answer.challenge, /^Bearer/);
    assert.equal(JSON.parse(answer.text).decision, answer.id);
    console.log(`decision: ${answer.id}`);
  });
  await step(async () => {
    const refused = await fetched(page, "/orders", { method: "DELETE", headers: bearer });
    assert.ok(refused.error, JSON.stringify(refused));
    const header = await fetched(page, "/orders", { headers: { ...bearer, "X-Other": "1" } });
    assert.ok(header.error, JSON.stringify(header));
  });
  const stranger = await browser.newPage();
  await stranger.goto(origin(other));
  await step(async () => {
    for (const settings of [{ method: "PUT", headers: bearer, body: "{}" }, { headers: bearer }, {}]) {
      const answer = await fetched(stranger, "/orders", settings);
      assert.ok(answer.error, JSON.stringify(answer));
    }
  });
  await step(async () => {
    // A sandboxed frame has the origin `null`.
    await page.setContent('<iframe sandbox="allow-scripts" srcdoc="<body>inside</body>"></iframe>');
    const frame = page.frames().find((frame) => frame !== page.mainFrame());
    await frame.waitForSelector("body");
    const answer = await fetched(frame, "/orders", { headers: bearer });
    assert.ok(answer.error, JSON.stringify(answer));
  });
  console.log(`done: ${steps} steps`);
} finally {
  await browser.close();
  listed.close();
  other.close();
}
