// npm `jose`: reads cases from standard input, opens and verifies ours, answers with its own.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(pathToFileURL(process.argv[2] + "/"));
const jose = await import(pathToFileURL(require.resolve("jose")));
const cases = JSON.parse(readFileSync(0, "utf8"));
const out = { jwe: [], jws: [], unsupported: [] };
const secret = (jwk) => Buffer.from(jwk.k, "base64url");
const load = async (jwk, alg) => (jwk.kty === "oct" ? secret(jwk) : jose.importJWK(jwk, alg));
const open = ({ d, p, q, dp, dq, qi, ...rest }) => rest;

for (const { id, alg, enc, key, object } of cases.jwe) {
  try {
    const options = { keyManagementAlgorithms: [alg], contentEncryptionAlgorithms: [enc], maxPBES2Count: 100000 };
    const { plaintext } = await jose.compactDecrypt(object, await load(key, alg), options);
    const recipient = key.kty === "oct" ? secret(key) : await jose.importJWK(open(key), alg);
    const theirs = new jose.CompactEncrypt(new TextEncoder().encode(`from jose ${id}`)).setProtectedHeader({ alg, enc });
    out.jwe.push({ id, payload: new TextDecoder().decode(plaintext), object: await theirs.encrypt(recipient) });
  } catch (error) {
    out.unsupported.push({ id, why: `${error.code}: ${error.message}` });
  }
}
for (const { id, alg, key, object } of cases.jws) {
  try {
    const verifier = key.kty === "oct" ? secret(key) : await jose.importJWK(open(key), alg);
    const { payload } = await jose.compactVerify(object, verifier, { algorithms: [alg] });
    const theirs = new jose.CompactSign(new TextEncoder().encode(`from jose ${id}`)).setProtectedHeader({ alg });
    out.jws.push({ id, payload: new TextDecoder().decode(payload), object: await theirs.sign(await load(key, alg)) });
  } catch (error) {
    out.unsupported.push({ id, why: `${error.code}: ${error.message}` });
  }
}
console.log(JSON.stringify(out));
