// Pictures of every page in light and dark, to look at. With IDM they are of `idm demo` with a little traffic, else of
// the made-up data of the tests. See `pictures` for how it is called.
import { execFileSync } from "node:child_process";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { launch } from "./browser.mjs";
import { signIn, withDemo } from "./demo.mjs";
import { PAGES, TOKEN } from "./pages.mjs";
import { serve } from "../fixture/server.mjs";

const [folder, ...only] = process.argv.slice(2);
const SIZE = { width: 1280, height: 800 };
/** The pictures of the documentation: page, theme and width. */
const SHOWN = [
  ["home", "light"],
  ["topology", "dark"],
  ["explain", "light"],
];
const WIDTH = 960;

const decode = async (page) => {
  await page.getByLabel("Paste a JWT").fill(TOKEN);
  await page.getByRole("heading", { name: "Claims" }).waitFor();
};

/** The pages of the demo; `id` is that of a decision. */
const demoPages = (id) => [
  ["home", "/"],
  ["topology", "/topology"],
  ["standards", "/standards"],
  ["policies", "/policies"],
  ["policy", "/policies/default/orders"],
  ["policy-form", "/policies/default/orders?tab=form"],
  ["policy-yaml", "/policies/default/orders?tab=yaml"],
  ["policy-effective", "/policies/default/orders?tab=effective"],
  ["policy-decisions", "/policies/default/orders?tab=decisions"],
  ["credentials", "/credentials"],
  ["credential", "/credentials/default/nightly"],
  ["federations", "/federations"],
  ["federation", "/federations/default/corp"],
  ["new-federation", "/new/Federation"],
  ["bindings", "/bindings"],
  ["matrix", "/matrix"],
  ["audit", "/audit"],
  ["audit-record", `/audit?id=${id}`],
  ["models", "/models"],
  ["explain", `/explain?id=${id}`],
  ["decoder", "/decoder", decode],
];

const head = (kind, name) =>
  `apiVersion: identity-manager.io/v1alpha1\nkind: ${kind}\nmetadata: {name: ${name}}\nspec:\n`;
const OBJECTS = [
  [
    "Federation",
    "corp",
    "  ldap:\n    servers: [ldaps://dc1.corp.example]\n    bind: {anonymous: {}}\n" +
      "    users: {base: 'DC=corp,DC=example'}\n",
  ],
  [
    "RoleBinding",
    "shop-owners",
    "  permissionRole: Owner\n  subjects: [{group: shop-leads}]\n  scope: {project: {}}\n",
  ],
];
const CREDENTIALS = [
  ["nightly", "application:nightly-batch", 30],
  ["reporting", "application:reporting", 5],
  ["partner-acme", "user:acme@partners.example", 300],
];

/** Objects and calls that a small installation has. Returns the id of a decision. */
async function live(page, { gateway, state }, idm) {
  const ask = (method, path, body) =>
    page.evaluate(
      async ([verb, at, sent]) => {
        const headers = { "Content-Type": "application/json", "X-Idm-Manager": "1" };
        const answer = await fetch(`/api/v1/${at}`, { method: verb, headers, body: JSON.stringify(sent) });
        return answer.ok ? "" : answer.text();
      },
      [method, path, body],
    );
  for (const [kind, name, spec] of OBJECTS) {
    const refused = await ask("PUT", `objects/${kind}/default/${name}`, { yaml: head(kind, name) + spec });
    if (refused) console.error(`${kind} ${name}: ${refused}`);
  }
  for (const [name, owner, days] of CREDENTIALS) {
    const expireTime = new Date(Date.now() + days * 86_400_000).toISOString();
    await ask("POST", "credentials/default", { name, owner, expireTime, roles: ["order-reader"] });
  }
  const key = (await readFile(join(state, "demo-api-key"), "utf8")).trim();
  const environment = { ...process.env, IDM_STATE_DIR: state };
  const token = execFileSync(idm, ["token", "mint", "--user", "ana"], { env: environment }).toString().trim();
  const calls = [
    ["GET", "/orders", { Authorization: `Bearer ${token}` }],
    ["GET", "/orders/4711", { Authorization: `Bearer ${token}` }],
    ["GET", "/open", {}],
    ["GET", "/orders", {}],
    ["POST", "/orders", { "X-Api-Key": key }],
    ["GET", "/orders", { "X-Api-Key": `${key}x` }],
  ];
  let id;
  for (let turn = 0; turn < 60; turn += 1) {
    const [method, path, headers] = calls[(turn * turn) % calls.length];
    const answer = await fetch(gateway + path, { method, headers });
    if (answer.status === 403) id = answer.headers.get("x-decision-id") ?? id;
    await answer.arrayBuffer();
  }
  return id;
}

/** Takes the pictures of a context that is signed in. */
async function take(browser, page, theme, address, pages) {
  await page.emulateMedia({ colorScheme: theme });
  for (const [name, path, prepare] of pages) {
    if (only.length && !only.includes(name)) continue;
    await page.goto(address + path, { waitUntil: "networkidle" });
    await page.locator(".skeleton").first().waitFor({ state: "detached" });
    if (prepare) await prepare(page);
    const file = join(folder, `${name}-${theme}`);
    await page.screenshot({ path: `${file}.png`, fullPage: true });
    if (SHOWN.some(([each, of]) => each === name && of === theme)) {
      await writeFile(`${file}.webp`, await small(browser, await page.screenshot()));
    }
  }
}

/** A picture in few bytes. */
async function small(browser, png) {
  const page = await browser.newPage();
  const encoded = await page.evaluate(
    async ([source, width]) => {
      const image = new Image();
      image.src = source;
      await image.decode();
      const canvas = document.createElement("canvas");
      canvas.width = width;
      canvas.height = Math.round((image.height * width) / image.width);
      const context = canvas.getContext("2d");
      context.imageSmoothingQuality = "high";
      context.drawImage(image, 0, 0, canvas.width, canvas.height);
      return canvas.toDataURL("image/webp", 0.82);
    },
    [`data:image/png;base64,${png.toString("base64")}`, WIDTH],
  );
  await page.close();
  return Buffer.from(encoded.split(",")[1], "base64");
}

async function of(address, prepare) {
  const browser = await launch();
  const page = await (await browser.newContext({ viewport: SIZE, locale: "en-GB" })).newPage();
  page.on("pageerror", (error) => console.error(error.message));
  const pages = await prepare(page);
  for (const theme of ["light", "dark"]) await take(browser, page, theme, address, pages);
  await browser.close();
}

await mkdir(folder, { recursive: true });
const idm = process.env.IDM;
if (idm) {
  await withDemo(idm, (demo) =>
    of(demo.manager, async (page) => {
      await signIn(page, demo.manager, demo.code);
      return demoPages(await live(page, demo, idm));
    }),
  );
} else {
  const server = await serve();
  await of(server.address, () => PAGES);
  await server.close();
}
