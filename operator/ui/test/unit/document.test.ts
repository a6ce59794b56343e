// The form edits the document itself: what nobody touched stays, with comments and unknown fields.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { parse, parseDocument } from "yaml";
import {
  appendAt,
  dataOf,
  moveAt,
  open,
  type Path,
  partOf,
  removeAt,
  resolve,
  setAt,
  steps,
} from "../../src/form/document";

const UI = process.env.UI ?? ".";
const samples = readdirSync(join(UI, "../../config/samples"))
  .filter((each) => each.endsWith(".yaml"))
  .flatMap((each) => readFileSync(join(UI, "../../config/samples", each), "utf8").split(/^---$/m));

/** Numbers from a seed, so that a failure can be repeated. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state * 1664525 + 1013904223) >>> 0;
    return state % below;
  };
}

const comments = (text: string): string[] => (text.match(/# \S.*$/gm) ?? []).sort();

/** Every path to a scalar. */
function leaves(value: unknown, at: Path = []): Path[] {
  if (Array.isArray(value)) return value.flatMap((each, index) => leaves(each, [...at, index]));
  if (typeof value === "object" && value !== null)
    return Object.entries(value).flatMap(([key, each]) => leaves(each, [...at, key]));
  return [at];
}

function withChange(value: unknown, path: Path, next: unknown): unknown {
  const copy = structuredClone(value) as Record<string | number, never>;
  let here: Record<string | number, never> = copy;
  for (const step of path.slice(0, -1)) here = here[step] as typeof here;
  (here as Record<string | number, unknown>)[path.at(-1) ?? ""] = next;
  return copy;
}

/** An object with comments, unknown fields, flow and block style, odd strings. */
function generated(seed: number): string {
  const next = random(seed);
  const words = [
    "orders",
    "'quoted: yes'",
    '"tab\\t"',
    "ünïcode",
    "https://a.example/x?y=z#w",
    "*",
    "12",
    "true",
    "|-",
  ];
  const word = () => JSON.stringify(words[next(words.length)]);
  const lines = [
    "apiVersion: identity-manager.io/v1alpha1 # group",
    "kind: IdentityPolicy",
    `metadata: {name: p-${seed}, labels: {a: "1"}}`,
    "# before spec",
    "spec:",
  ];
  for (let index = 0; index <= next(5); index += 1) {
    lines.push(`  field${index}: ${word()}   # note ${index}`);
    if (next(2)) lines.push(`  flow${index}: {x: ${word()}, deep: [1, {y: ${word()}}]} # flow ${index}`);
    if (next(2))
      lines.push(
        `  list${index}:`,
        `  # above ${index}`,
        `  - name: ${word()}`,
        "    unknownField: {kept: [1, 2]}",
        `  - ${word()} # second ${index}`,
      );
    if (next(3) === 0) lines.push(`  block${index}: |`, "    first", "    second");
  }
  return `${lines.join("\n")}\n`;
}

test("a change of any scalar of every sample changes that value and nothing else", () => {
  for (const sample of samples) {
    const data = parse(sample) as unknown;
    for (const path of leaves(data)) {
      const after = setAt(sample, path, "changed: # not a comment");
      assert.deepEqual(parse(after), withChange(data, path, "changed: # not a comment"), path.join("."));
      assert.deepEqual(
        comments(after).filter((each) => !each.includes("not a comment")),
        comments(sample),
      );
    }
  }
});

test("a thousand generated objects keep comments and unknown fields through edits", () => {
  for (let seed = 1; seed <= 1000; seed += 1) {
    const text = generated(seed);
    const next = random(seed * 7);
    const data = parse(text) as unknown;
    const paths = leaves(data).filter((each) => each[0] === "spec");
    const path = paths[next(paths.length)] ?? ["spec"];
    const after = setAt(text, path, seed);
    assert.deepEqual(parse(after), withChange(data, path, seed), text);
    assert.deepEqual(comments(after), comments(text), after);
    const back = removeAt(setAt(after, ["spec", "added", "deep"], "x"), ["spec", "added"]);
    assert.deepEqual(parse(back), parse(after));
    assert.deepEqual(comments(back), comments(text));
  }
});

test("the manner of writing stays: padding of braces and indentation of lists", () => {
  const text = "spec:\n  list:\n  - {name: a, value: b}\n  - name: c\n";
  assert.equal(setAt(text, ["spec", "list", 1, "name"], "d"), "spec:\n  list:\n  - {name: a, value: b}\n  - name: d\n");
  const padded = "spec:\n  list:\n    - { name: a }\n";
  assert.equal(setAt(padded, ["spec", "list", 0, "name"], "d"), "spec:\n  list:\n    - { name: d }\n");
});

test("entries are added, moved and removed with their comments", () => {
  const text = "list:\n- a # one\n- b # two\n";
  assert.equal(moveAt(text, ["list"], 0, 1), "list:\n- b # two\n- a # one\n");
  assert.equal(moveAt(text, ["list"], 1, 1), text);
  assert.deepEqual(parse(appendAt(text, ["list"], { name: "c" })), { list: ["a", "b", { name: "c" }] });
  assert.deepEqual(parse(appendAt("spec: {}\n", ["spec", "rules"], { name: "c" })), {
    spec: { rules: [{ name: "c" }] },
  });
  assert.equal(removeAt(text, ["list", 0]), "list:\n- b # two\n");
});

test("a field with nothing behind it becomes an object when something is put into it", () => {
  assert.deepEqual(parse(setAt("spec:\n  apiKey:\n", ["spec", "apiKey", "x"], 1)), { spec: { apiKey: { x: 1 } } });
});

test("text that is no object is told and is never changed", () => {
  for (const text of ["spec: [1\n", "- a\n", "a: b: c\n"]) {
    assert.ok(open(text).problem, text);
    assert.equal(setAt(text, ["spec"], 1), text);
  }
});

test("a part is shown as YAML of its own", () => {
  assert.equal(partOf("a:\n  b: [1, 2] # kept\n", ["a", "b"]), "[ 1, 2 ] # kept");
});

test("fields of findings lead to paths, by index, name or key, as far as they go", () => {
  const data = dataOf("spec: {methods: [{name: a}, {name: 'b.c', jwt: {issuers: [{issuer: 'https://x.example/r'}]}}]}");
  assert.deepEqual(steps("spec.methods[b.c].jwt"), ["spec", "methods", "[b.c]", "jwt"]);
  assert.deepEqual(resolve("spec.methods[b.c].jwt.issuers[https://x.example/r].issuer", data), [
    "spec",
    "methods",
    1,
    "jwt",
    "issuers",
    0,
    "issuer",
  ]);
  assert.deepEqual(resolve("spec.methods[0].name", data), ["spec", "methods", 0, "name"]);
  assert.deepEqual(resolve("spec.methods[nobody].name", data), ["spec", "methods"]);
  assert.deepEqual(resolve("", data), []);
});

test("what the editor writes is what the parser reads, also for a comment alone", () => {
  const document = parseDocument("# only this\n");
  assert.equal(document.errors.length, 0);
  assert.deepEqual(parse(setAt("# only this\n", ["spec"], 1)), { spec: 1 });
});
