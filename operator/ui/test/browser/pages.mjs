// Every page: its name, its address, and what to do there first.
import { ulid } from "../fixture/world.mjs";

const b64 = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
export const TOKEN = [
  b64({ alg: "RS256", kid: "2026-11", typ: "at+jwt" }),
  b64({
    iss: "https://idp.shop.example/realms/staff",
    sub: "ana",
    aud: ["orders"],
    exp: 1_700_000_000,
    iat: 1_699_996_400,
    scope: "orders.read",
    note: "<b>bold</b>",
  }),
  "c2ln",
].join(".");

const decode = async (page) => {
  await page.getByLabel("Paste a JWT").fill(TOKEN);
  await page.getByRole("heading", { name: "Claims" }).waitFor();
};

export const PAGES = [
  ["home", "/"],
  ["standards", "/standards"],
  ["policies", "/policies"],
  ["policy", "/policies/shop/people"],
  ["policy-form", "/policies/billing/partners?tab=form"],
  ["policy-yaml", "/policies/billing/partners?tab=yaml"],
  ["policy-effective", "/policies/shop/orders?tab=effective"],
  ["policy-decisions", "/policies/shop/orders?tab=decisions"],
  ["policy-managed", "/policies/shop/reports?tab=form"],
  ["credentials", "/credentials"],
  ["credential", "/credentials/shop/nightly"],
  ["federations", "/federations"],
  ["federation", "/federations/shop/corp-ad"],
  ["new-federation", "/new/Federation"],
  ["bindings", "/bindings"],
  ["new-policy", "/new/IdentityPolicy?method=jwt"],
  ["my-access", "/my-access"],
  ["ask", "/my-access/new"],
  ["my-request", "/my-access/shop/to-take"],
  ["requests", "/requests"],
  ["requests-all", "/requests?show=all"],
  ["request", "/requests/shop/reports-eu"],
  ["matrix", "/matrix"],
  ["audit", "/audit"],
  ["audit-record", `/audit?id=${ulid(394)}`],
  ["models", "/models"],
  ["explain", `/explain?id=${ulid(394)}`],
  ["decoder", "/decoder", decode],
  ["topology", "/topology"],
  ["nothing", "/no/such/page"],
];
