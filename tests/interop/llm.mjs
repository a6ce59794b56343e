// The providers' own clients, pointed at the gateway with the caller's credential instead of a provider's key.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [, , libraries, provider, gateway] = process.argv;
const require = createRequire(pathToFileURL(libraries + "/"));
const mine = Buffer.from("ana:secret").toString("base64");
if (provider === "OpenAI") {
  const OpenAI = require("openai").default ?? require("openai");
  const client = new OpenAI({ apiKey: "unused", baseURL: `${gateway}/v1`, defaultHeaders: { Authorization: `Basic ${mine}` }, maxRetries: 0 });
  let text = "";
  for await (const chunk of await client.chat.completions.create({ model: "m", stream: true, messages: [{ role: "user", content: "hi" }] })) {
    text += chunk.choices[0]?.delta?.content ?? "";
  }
  console.log(text);
} else {
  const Anthropic = require("@anthropic-ai/sdk").default ?? require("@anthropic-ai/sdk");
  // This client sends its key in `x-api-key`, where the policy looks for the caller's own.
  const client = new Anthropic({ apiKey: mine, baseURL: gateway, maxRetries: 0 });
  const message = await client.messages.create({ model: "c", max_tokens: 10, messages: [{ role: "user", content: "hi" }] });
  console.log(message.content[0].text);
}
