// Every construct of our CRDs has a widget, or is a piece of YAML that is meant to be one.
import assert from "node:assert/strict";
import test from "node:test";
import { blank, type Schema, titleOf, widgetOf } from "../../src/form/schema";
import { starter, STARTERS } from "../../src/lib/starters";
import { dataOf, open } from "../../src/form/document";
// @ts-expect-error The fixture has no types.
import { schemasOf } from "../fixture/schemas.mjs";

const schemas = schemasOf(process.env.UI ?? ".") as Record<string, Schema>;

function* fields(schema: Schema, at: string): Generator<[string, Schema]> {
  yield [at, schema];
  for (const [name, each] of Object.entries(schema.properties ?? {})) yield* fields(each, `${at}.${name}`);
  if (schema.items) yield* fields(schema.items, `${at}[]`);
}

test("only the free JSON of REST bodies falls back to YAML", () => {
  const fallbacks: string[] = [];
  for (const [kind, schema] of Object.entries(schemas)) {
    for (const [at, each] of fields(schema.properties?.["spec"] ?? {}, kind))
      if (widgetOf(each) === "yaml") fallbacks.push(at);
  }
  assert.deepEqual(fallbacks, ["Federation.rest.lookUp.json", "Federation.rest.verify.json"]);
});

test("unknown constructs fall back to YAML", () => {
  for (const schema of [
    undefined,
    {},
    { type: "array", items: {} },
    { type: "object", additionalProperties: true },
    { type: "array", items: { type: "array" } },
  ])
    assert.equal(widgetOf(schema), "yaml");
});

test("a new value has all that is required, down to the last level", () => {
  const method =
    schemas["IdentityPolicy"]?.properties?.["spec"]?.properties?.["authentication"]?.properties?.["methods"] ?? {};
  assert.deepEqual(blank(method), [{ name: "" }]);
  assert.deepEqual(blank(method.items?.properties?.["mtls"] ?? {}), { identity: "URI", trustBundleRef: { name: "" } });
});

test("the lines to start with are documents of their kind, of fields that the schema knows", () => {
  const check = (schema: Schema, value: unknown, at: string): void => {
    if (Array.isArray(value)) return value.forEach((each) => check(schema.items ?? {}, each, at));
    if (typeof value !== "object" || value === null || schema.additionalProperties) return;
    for (const name of schema.required ?? []) assert.ok(name in value, `${at}.${name} is required`);
    for (const [name, each] of Object.entries(value)) {
      assert.ok(schema.properties?.[name], `${at}.${name} is no field`);
      check(schema.properties?.[name] ?? {}, each, `${at}.${name}`);
    }
  };
  for (const [kind, all] of Object.entries(STARTERS)) {
    for (const which of Object.keys(all)) {
      const text = starter(kind as keyof typeof STARTERS, which);
      assert.equal(open(text).problem, undefined, text);
      check(schemas[kind]?.properties?.["spec"] ?? {}, dataOf(text)["spec"], `${kind} ${which}`);
    }
  }
});

test("names of fields read as words", () => {
  assert.equal(titleOf("clockSkewSeconds"), "Clock skew seconds");
  assert.equal(titleOf("jwksURI"), "Jwks URI");
  assert.equal(titleOf("realm"), "Realm");
});
