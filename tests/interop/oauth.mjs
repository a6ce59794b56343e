// `openid-client`, a certified OAuth client that knows nothing of us, against the token service of a gateway.
import assert from "node:assert";
import http from "node:http";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [, , libraries, issuer, address] = process.argv;
const require = createRequire(pathToFileURL(libraries + "/"));
const client = await import(pathToFileURL(require.resolve("openid-client")));

// The issuer's name leads to the gateway's port: the request says the host that the client meant.
const viaGateway = (url, options) =>
  new Promise((resolve, reject) => {
    const { pathname, search, host } = new URL(url);
    const [hostname, port] = address.split(":");
    const request = http.request({ hostname, port, path: pathname + search, method: options.method, headers: { ...Object.fromEntries(new Headers(options.headers)), host } }, (answer) => {
      const chunks = [];
      answer.on("data", (chunk) => chunks.push(chunk));
      answer.on("end", () => {
        const headers = Object.entries(answer.headers).map(([name, value]) => [name, String(value)]);
        resolve(new Response(chunks.length ? Buffer.concat(chunks) : null, { status: answer.statusCode, headers }));
      });
    });
    request.on("error", reject);
    request.end(options.body ? options.body.toString() : undefined);
  });

const discover = (id, metadata, authentication) =>
  client.discovery(new URL(issuer), id, metadata, authentication, { algorithm: "oauth2", [client.customFetch]: viaGateway });
const fails = (promise, error) => assert.rejects(promise, (problem) => problem.error === error || problem.cause?.error === error || assert.fail(problem));

// A client with a secret, in both places it may stand.
for (const authentication of [client.ClientSecretBasic, client.ClientSecretPost]) {
  const config = await discover("reports", {}, authentication(process.env.CLIENT_SECRET));
  const tokens = await client.clientCredentialsGrant(config, { scope: "orders.read" });
  assert.equal(tokens.scope, "orders.read");
  const told = await client.tokenIntrospection(config, tokens.access_token);
  assert.equal(told.active, true);
  assert.equal(told.client_id, "reports");
  await client.tokenRevocation(config, tokens.access_token);
  assert.equal((await client.tokenIntrospection(config, tokens.access_token)).active, false);
  await fails(client.clientCredentialsGrant(config, { scope: "admin" }), "invalid_scope");
}
const wrong = await discover("reports", {}, client.ClientSecretBasic("wrong"));
await assert.rejects(client.clientCredentialsGrant(wrong), (problem) => JSON.stringify(problem.cause ?? problem).includes("invalid_client") || problem.status === 401);

// A user's tokens, had again with the refresh token.
const config = await discover("reports", {}, client.ClientSecretBasic(process.env.CLIENT_SECRET));
const signedIn = await client.genericGrantRequest(config, "password", { username: "ana", password: "correct horse" });
const again = await client.refreshTokenGrant(config, signedIn.refresh_token);
assert.notEqual(again.refresh_token, signedIn.refresh_token);
await fails(client.refreshTokenGrant(config, signedIn.refresh_token), "invalid_grant");

// A client that signs, and a token that is bound to a key.
const jwk = JSON.parse(process.env.PRIVATE_KEY);
const key = await crypto.subtle.importKey("jwk", { ...jwk, key_ops: undefined }, { name: "ECDSA", namedCurve: "P-256" }, false, ["sign"]);
const robot = await discover("robot", { token_endpoint_auth_method: "private_key_jwt" }, client.PrivateKeyJwt({ key, kid: "robot-1" }));
const dpop = client.getDPoPHandle(robot, await client.randomDPoPKeyPair("ES256"));
const bound = await client.clientCredentialsGrant(robot, {}, { DPoP: dpop });
assert.equal(bound.token_type, "dpop");
const fetched = await client.fetchProtectedResource(robot, bound.access_token, new URL("https://shop.example/orders"), "GET", null, new Headers(), { DPoP: dpop });
assert.equal(fetched.status, 200);
await assert.rejects(client.fetchProtectedResource(robot, bound.access_token, new URL("https://shop.example/orders"), "GET"), (problem) => problem.status === 401);
console.log("done");
