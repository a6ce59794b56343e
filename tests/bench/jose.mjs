// The same work as gateway/jose/examples/throughput.rs, done by npm `jose`.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
const require = createRequire(pathToFileURL(process.argv[2] + "/"));
const jose = await import(pathToFileURL(require.resolve("jose")));
const payload = new TextEncoder().encode(JSON.stringify({ order: 7, note: "x".repeat(200) }));
const measure = async (name, work) => {
  for (let i = 0; i < 50; i++) await work();
  const start = performance.now();
  let done = 0;
  while (performance.now() - start < 1000) {
    await work();
    done++;
  }
  console.log(`jose ${name} ${Math.round((done * 1000) / (performance.now() - start))}`);
};
for (const alg of ["RS256", "ES256", "EdDSA", "HS256"]) {
  const { privateKey, publicKey } = alg === "HS256" ? { privateKey: crypto.getRandomValues(new Uint8Array(32)) } : await jose.generateKeyPair(alg, alg === "EdDSA" ? { crv: "Ed25519" } : {});
  const sign = () => new jose.CompactSign(payload).setProtectedHeader({ alg }).sign(privateKey);
  const signed = await sign();
  await measure(`sign ${alg}`, sign);
  if (publicKey) await measure(`verify ${alg}`, () => jose.compactVerify(signed, publicKey));
}
for (const [alg, enc] of [["RSA-OAEP-256", "A256GCM"], ["ECDH-ES+A256KW", "A256GCM"], ["dir", "A128CBC-HS256"]]) {
  const { privateKey, publicKey } = alg === "dir" ? { privateKey: crypto.getRandomValues(new Uint8Array(32)) } : await jose.generateKeyPair(alg);
  const seal = () => new jose.CompactEncrypt(payload).setProtectedHeader({ alg, enc }).encrypt(publicKey ?? privateKey);
  const sealed = await seal();
  await measure(`encrypt ${alg}/${enc}`, seal);
  await measure(`decrypt ${alg}/${enc}`, () => jose.compactDecrypt(sealed, privateKey));
}
