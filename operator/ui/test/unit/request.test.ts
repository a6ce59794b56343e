// The key of a request: agreed, derived and opened as the standards say, and what an answer is bound to.
import assert from "node:assert/strict";
import { createHash, generateKeyPairSync, webcrypto } from "node:crypto";
import test from "node:test";
import { agreed, bytesOf, derived, JweError, opened } from "../../src/lib/jwe";
import { hashOf, hasId, labelsOf, sorted } from "../../src/lib/request";
import { curl, javascript, python } from "../../src/lib/snippets";
import type { RequestView } from "../../src/lib/types";
// @ts-expect-error The fixture has no types.
import { encryptedTo } from "../fixture/requests.mjs";

const EC = { name: "ECDH", namedCurve: "P-256" };
const b64 = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");

test("a key is agreed and derived as in RFC 7518, appendix C", async () => {
  const ephemeral = {
    kty: "EC",
    crv: "P-256",
    x: "gI0GAILBdu7T53akrFmMyGcsF3n5dO7MmwNBHKW5SV0",
    y: "SLW_xSffzlPWrHEVI30DHM_4egVwt3NQqeUD7nMFpps",
  };
  const own = {
    kty: "EC",
    crv: "P-256",
    x: "weNJy2HscCSM6AEDTDg04biOvhFhyyWvOHQfeF_PxMQ",
    y: "e8lnCO-AlStT-NJVX-crhB7QRYhiix03illJOVAOyck",
    d: "VEmDZpDXXK8p8N0Cndsxs924q6nS1RXFASRl6BfUqdw",
  };
  const key = await webcrypto.subtle.importKey("jwk", own, EC, false, ["deriveBits"]);
  const secret = await agreed(key, ephemeral);
  const expected = [
    158, 86, 217, 29, 129, 113, 53, 211, 114, 131, 66, 131, 191, 132, 38, 156, 251, 49, 110, 163, 218, 128, 106, 72,
    246, 218, 167, 121, 140, 254, 144, 196,
  ];
  assert.deepEqual([...secret], expected);
  const raw = await derived(secret, "A128GCM", [bytesOf("QWxpY2U"), bytesOf("Qm9i")], 128);
  assert.equal(Buffer.from(raw).toString("base64url"), "VqqN6vgjbSBcIijNcacQGg");
});

async function pair() {
  const { privateKey, publicKey } = await webcrypto.subtle.generateKey(EC, false, ["deriveBits"]);
  return { privateKey, jwk: await webcrypto.subtle.exportKey("jwk", publicKey) };
}

test("a JWE of another implementation is opened, by its recipient alone", async () => {
  const { privateKey, jwk } = await pair();
  const jwe = encryptedTo(jwk, "idm_kéy") as string;
  assert.equal(await opened(jwe, privateKey), "idm_kéy");
  await assert.rejects(opened(jwe, (await pair()).privateKey), /encrypted to another key, or was changed/);
});

test("a JWE that is changed, or not as it must be, is refused and says why", async () => {
  const { privateKey, jwk } = await pair();
  const parts = (encryptedTo(jwk, "idm_key") as string).split(".");
  const header = JSON.parse(Buffer.from(parts[0] ?? "", "base64url").toString()) as Record<string, unknown>;
  const other = generateKeyPairSync("ec", { namedCurve: "P-384" }).publicKey.export({ format: "jwk" });
  const withHeader = (changes: object) => [b64({ ...header, ...changes }), ...parts.slice(1)].join(".");
  const flipped = (at: number) =>
    parts.map((part, index) => (index === at ? (part[0] === "A" ? "B" : "A") + part.slice(1) : part)).join(".");
  const cases: [string, RegExp][] = [
    [flipped(2), /changed/],
    [flipped(3), /changed/],
    [flipped(4), /changed/],
    [withHeader({ note: "x" }), /changed/],
    [withHeader({ apv: "Qm9i" }), /changed/],
    [withHeader({ alg: "ECDH-ES+A256KW" }), /ECDH-ES/],
    [withHeader({ enc: "A128GCM" }), /A256GCM/],
    [withHeader({ zip: "DEF" }), /zip/],
    [withHeader({ crit: ["x"] }), /crit/],
    [withHeader({ epk: other }), /epk/],
    [withHeader({ epk: undefined }), /epk/],
    [[parts[0], "AAAA", ...parts.slice(2)].join("."), /five parts/],
    [parts.slice(0, 4).join("."), /five parts/],
    [[...parts, ""].join("."), /five parts/],
    [[...parts.slice(0, 4), (parts[4] ?? "").slice(0, 11)].join("."), /length/],
    [[...parts.slice(0, 4), "!"].join("."), /base64url/],
  ];
  for (const [jwe, why] of cases) {
    await assert.rejects(opened(jwe, privateKey), (error) => error instanceof JweError && why.test(error.message), jwe);
  }
});

test("the hash is that of the sorted JSON of what is shown", async () => {
  const request = {
    name: "a",
    namespace: "shop",
    uid: "u",
    requester: "ana",
    purpose: 'ä"',
    credential: { roles: ["b", "a"], apiKey: {} },
    recipient: '{"kty":"EC"}',
    reason: "not in it",
  } as unknown as RequestView;
  const text =
    '{"name":"a","namespace":"shop","spec":{"credential":{"apiKey":{},"roles":["b","a"]},"purpose":"ä\\"",' +
    '"recipient":{"jwk":"{\\"kty\\":\\"EC\\"}"},"requester":{"username":"ana"}},"team":"","uid":"u"}';
  assert.equal(await hashOf(request), createHash("sha256").update(text).digest("hex"));
  for (const [name, value] of Object.entries({ purpose: "x", uid: "v", team: "t", requester: "eve", recipient: "" })) {
    assert.notEqual(await hashOf({ ...request, [name]: value }), await hashOf(request), name);
  }
  const mixed = { b: [true, null, 1], a: { d: 1, c: "\u0007" } };
  assert.equal(sorted(mixed), '{"a":{"c":"\\u0007","d":1},"b":[true,null,1]}');
});

test("a key has the id that begins its hash", async () => {
  const id = createHash("sha256").update("idm_key").digest("hex").slice(0, 12);
  assert.equal(await hasId("idm_key", id), true);
  assert.equal(await hasId("idm_other", id), false);
  assert.equal(await hasId("idm_key", ""), false);
});

test("labels are read as they are written, or named where they are wrong", () => {
  assert.deepEqual(labelsOf(" plan=gold, tier=a=b empty="), [
    { name: "plan", value: "gold" },
    { name: "tier", value: "a=b" },
    { name: "empty", value: "" },
  ]);
  assert.deepEqual(labelsOf(""), []);
  for (const wrong of ["gold", "=gold"]) assert.equal(labelsOf(`a=b, ${wrong}`), wrong);
});

test("lines with a key are words of their language, whatever is in them", () => {
  const call = { address: "https://x.example/?q='\"$(id)", header: "X-Api-Key" };
  assert.equal(
    curl({ ...call, secret: "idm_k" }),
    `curl -H 'X-Api-Key: idm_k' 'https://x.example/?q='\\''"$(id)'`,
  );
  for (const text of [javascript(call), python(call)]) {
    assert.ok(text.includes(JSON.stringify(call.address)) && text.includes("API_KEY"));
  }
});
