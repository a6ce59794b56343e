// A client and a server of the Model Context Protocol, by the protocol's own library, with a gateway between them, and
// a certified authorization server (`oidc-provider`). The server's port and the issuer go to standard output; the
// gateway's address comes on standard input.
import assert from "node:assert";
import crypto from "node:crypto";
import http from "node:http";
import readline from "node:readline";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [, , libraries] = process.argv;
const require = createRequire(pathToFileURL(libraries + "/"));
const sdk = (part) => require(`@modelcontextprotocol/sdk/${part}`);
const { McpServer } = sdk("server/mcp.js");
const { StreamableHTTPServerTransport } = sdk("server/streamableHttp.js");
const { Client } = sdk("client/index.js");
const { StreamableHTTPClientTransport } = sdk("client/streamableHttp.js");
const { discoverOAuthProtectedResourceMetadata, extractWWWAuthenticateParams, UnauthorizedError } = sdk("client/auth.js");
const { default: Provider } = await import(pathToFileURL(require.resolve("oidc-provider")));

// The server: each request gets a transport of its own. Its tool tells who calls, as the gateway told it.
const server = http.createServer(async (request, response) => {
  if (request.method !== "POST") {
    return response.writeHead(405).end();
  }
  assert.equal(request.headers.authorization, undefined);
  const mcp = new McpServer({ name: "orders", version: "1.0.0" });
  mcp.registerTool("whoami", {}, (extra) => ({
    content: [{ type: "text", text: String(extra.requestInfo.headers["x-authenticated-userid"]) }],
  }));
  const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined, enableJsonResponse: true });
  response.on("close", () => transport.close());
  await mcp.connect(transport);
  await transport.handleRequest(request, response);
});
const listen = (server) => new Promise((ready) => server.listen(0, "127.0.0.1", () => ready(server.address().port)));
const port = await listen(server);

// The authorization server: anyone may register a client, and tokens are made for the resource that is asked for.
let answer = (_, response) => response.writeHead(503).end();
const provides = http.createServer((request, response) => answer(request, response));
const issuer = `http://127.0.0.1:${await listen(provides)}`;
const { privateKey } = crypto.generateKeyPairSync("ec", { namedCurve: "P-256" });
const ofResource = (_, resource) => ({
  ...{ scope: "mcp.read", audience: resource, accessTokenFormat: "jwt", jwt: { sign: { alg: "ES256" } } },
});
const provider = new Provider(issuer, {
  jwks: { keys: [{ ...privateKey.export({ format: "jwk" }), kid: "k1", use: "sig", alg: "ES256" }] },
  clientDefaults: { id_token_signed_response_alg: "ES256" },
  scopes: ["openid", "offline_access", "mcp.read"],
  cookies: { keys: ["only for this test"] },
  features: {
    devInteractions: { enabled: true },
    registration: { enabled: true },
    resourceIndicators: { enabled: true, getResourceServerInfo: ofResource },
  },
  findAccount: async (_, id) => ({ accountId: id, claims: async () => ({ sub: id }) }),
});
answer = provider.callback();
console.log(`${port} ${issuer}`);
const lines = readline.createInterface({ input: process.stdin });
const [hostname, gatewayPort] = (await new Promise((line) => lines.once("line", line))).split(":");

// The name of the resource leads to the gateway's port: the request says the host that the client meant.
const asked = [];
const viaGateway = (url, options = {}) => {
  const { pathname, search, host, origin } = new URL(url);
  asked.push(`${options.method ?? "GET"} ${pathname}`);
  if (origin === issuer) return fetch(url, options);
  return new Promise((resolve, reject) => {
    const headers = { ...Object.fromEntries(new Headers(options.headers)), host };
    const request = http.request({ hostname, port: gatewayPort, path: pathname + search, method: options.method, headers }, (answer) => {
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
};

const url = new URL("https://shop.example/mcp");
let steps = 0;
const step = async (act) => {
  await act();
  steps += 1;
};

await step(async () => {
  const metadata = await discoverOAuthProtectedResourceMetadata(url, {}, viaGateway);
  assert.deepEqual(metadata, {
    resource: url.href,
    resource_name: "Orders",
    authorization_servers: [issuer],
    scopes_supported: ["mcp.read"],
    bearer_methods_supported: ["header"],
  });
  const refused = await viaGateway(url, { method: "POST", body: "{}" });
  const { resourceMetadataUrl } = extractWWWAuthenticateParams(refused);
  assert.equal(resourceMetadataUrl.href, "https://shop.example/.well-known/oauth-protected-resource/mcp");
});

// A person who signs in and consents, as the authorization server's pages ask.
const callback = "https://agent.example/callback";
const approve = async (start) => {
  const cookies = new Map();
  let [at, form] = [start, undefined];
  for (let hops = 0; hops < 20; hops += 1) {
    if (at.href.startsWith(callback)) return at.searchParams.get("code");
    const headers = { cookie: [...cookies].map((pair) => pair.join("=")).join("; ") };
    const page = await fetch(at, { redirect: "manual", headers, method: form ? "POST" : "GET", body: form });
    for (const cookie of page.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(cookie);
      cookies.set(name, value);
    }
    const location = page.headers.get("location");
    form = undefined;
    if (location) {
      at = new URL(location, at);
    } else {
      const [, prompt] = /name="prompt" value="(\w+)"/.exec(await page.text());
      form = new URLSearchParams({ prompt, login: "ana", password: "anything" });
    }
  }
  throw new Error("the authorization server asks for ever");
};

// What a client remembers. It begins with nothing but the address of the server.
const agent = () => {
  const kept = {};
  return {
    kept,
    redirectUrl: callback,
    clientMetadata: { client_name: "agent", redirect_uris: [callback], token_endpoint_auth_method: "none" },
    clientInformation: () => kept.client,
    saveClientInformation: (client) => (kept.client = client),
    tokens: () => kept.tokens,
    saveTokens: (tokens) => (kept.tokens = tokens),
    codeVerifier: () => kept.verifier,
    saveCodeVerifier: (verifier) => (kept.verifier = verifier),
    redirectToAuthorization: (to) => (kept.to = to),
  };
};
const transportOf = (authProvider) => new StreamableHTTPClientTransport(url, { authProvider, fetch: viaGateway });
const connect = async (transport) => {
  const client = new Client({ name: "agent", version: "1.0.0" });
  await client.connect(transport);
  return client;
};
const ana = agent();
await step(async () => {
  asked.length = 0;
  const transport = transportOf(ana);
  // Refused, told where to look, registered, and sent to a person.
  await assert.rejects(connect(transport), UnauthorizedError);
  const ways = ["POST /mcp", "GET /.well-known/oauth-protected-resource/mcp"];
  assert.deepEqual(asked.slice(0, 2), ways);
  assert.ok(asked.includes("POST /reg"), asked.join(", "));
  assert.equal(ana.kept.to.searchParams.get("resource"), url.href);
  assert.equal(ana.kept.to.searchParams.get("scope"), "mcp.read");
  await transport.finishAuth(await approve(ana.kept.to));
  const [, claims] = ana.kept.tokens.access_token.split(".");
  assert.equal(JSON.parse(Buffer.from(claims, "base64url")).aud, url.href);
});
await step(async () => {
  const client = await connect(transportOf(ana));
  assert.deepEqual((await client.listTools()).tools.map((tool) => tool.name), ["whoami"]);
  const { content } = await client.callTool({ name: "whoami" });
  assert.deepEqual(content, [{ type: "text", text: "ana" }]);
  await client.close();
});
await step(async () => {
  // A token of the same person and client for another resource is not one for this.
  const other = agent();
  other.validateResourceURL = async () => new URL("https://shop.example/else");
  const transport = transportOf(other);
  await assert.rejects(connect(transport), UnauthorizedError);
  await transport.finishAuth(await approve(other.kept.to));
  const headers = { authorization: `Bearer ${other.kept.tokens.access_token}` };
  const refused = await viaGateway(url, { method: "POST", headers, body: "{}" });
  assert.equal(refused.status, 401);
  assert.equal(extractWWWAuthenticateParams(refused).error, "invalid_token");
});
console.log(`done: ${steps} steps`);
lines.close();
for (const one of [server, provides]) {
  one.close();
  one.closeAllConnections();
}
