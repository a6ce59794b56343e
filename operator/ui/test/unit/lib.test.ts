// Addresses, differences, the tail, the layers, tokens, permissions.
import assert from "node:assert/strict";
import test from "node:test";
import { diffLines, hunks } from "../../src/lib/diff";
import { takeApart } from "../../src/lib/jwt";
import { lay, walk } from "../../src/lib/layers";
import { money } from "../../src/lib/money";
import { address, match, objectPath } from "../../src/lib/router";
import { missing } from "../../src/lib/session";
import { release, START, take } from "../../src/lib/tail";
import type { AuditItem, Me } from "../../src/lib/types";

test("addresses match by parts, decoded, and with a slash at the end", () => {
  assert.deepEqual(match("/policies/:ns/:name", "/policies/shop/a%2Fb"), { ns: "shop", name: "a/b" });
  assert.deepEqual(match("/policies/:ns/:name", "/policies/shop/a.b/"), { ns: "shop", name: "a.b" });
  assert.deepEqual(match("/", "/"), {});
  for (const path of [
    "/policies/shop",
    "/policies/shop/a/b",
    "/policies//a",
    "/policies/shop/%E0%A4%A",
    "/policy/shop/a",
  ]) {
    assert.equal(match("/policies/:ns/:name", path), null, path);
  }
});

test("an object's address leads back to it, whatever its name", () => {
  for (const name of ["orders", "a.b", "a/b", "ü", "%41"]) {
    assert.deepEqual(match("/policies/:ns/:name", objectPath("IdentityPolicy", "shop", name) ?? ""), {
      ns: "shop",
      name,
    });
  }
  assert.equal(objectPath("Gateway", "shop", "x"), undefined);
});

test("money is written in its currency, to the millionth, and no code of another form is an error", () => {
  const of = (amount: string, currency = "USD") => money([{ amount, currency }], "en");
  assert.equal(of("1234.50"), "$1,234.50");
  assert.equal(of("0.000017"), "$0.000017");
  assert.equal(of("2.00", "<b>"), "2.00 <b>");
  assert.equal(money([]), "");
  assert.equal(
    money(
      [
        { amount: "1.00", currency: "EUR" },
        { amount: "2.00", currency: "USD" },
      ],
      "en",
    ),
    "€1.00 + $2.00",
  );
});

test("empty filters leave the address", () => {
  assert.equal(address("/audit", { kind: "Decision", reason: "" }), "/audit?kind=Decision");
  assert.equal(address("/audit", { reason: undefined }), "/audit");
});

test("a difference rebuilds both texts, and its hunks leave out what is far away", () => {
  const texts = ["", "a", "a\nb\nc", "a\nc", "x\nb\nc\nd", "c\nb\na"];
  for (const a of texts) {
    for (const b of texts) {
      const lines = diffLines(a, b);
      assert.equal(
        lines
          .filter((each) => each.sign !== "+")
          .map((each) => each.text)
          .join("\n"),
        a,
      );
      assert.equal(
        lines
          .filter((each) => each.sign !== "-")
          .map((each) => each.text)
          .join("\n"),
        b,
      );
    }
  }
  const long = Array.from({ length: 20 }, (_, index) => `line ${index}`);
  const shown = hunks(diffLines(long.join("\n"), long.with(10, "other").join("\n")));
  assert.equal(shown.filter((each) => each === null).length, 2);
  assert.equal(shown.length, 8);
});

const item = (id: string): AuditItem => ({ id, time: "", kind: "Decision", who: "", namespace: "", title: "" });

test("the tail shows each record once, keeps what comes while paused, and counts what it drops", () => {
  let tail = take(take(START, item("1"), false), item("1"), false);
  assert.equal(tail.items.length, 1);
  for (let n = 2; n <= 1100; n += 1) tail = take(tail, item(String(n)), true);
  assert.equal(tail.items.length, 1);
  assert.equal(tail.waiting.length, 1000);
  assert.equal(tail.skipped, 99);
  tail = release(tail);
  assert.equal(tail.waiting.length, 0);
  assert.equal(tail.items[0]?.id, "1100");
});

test("layers: no two nodes at one place, every line drawn, arrows lead along lines", () => {
  const node = (id: string, kind: string) => ({ id, kind, name: id, namespace: "n", state: "Enforced" as const });
  const nodes = [
    node("g", "Gateway"),
    node("s", "Service"),
    ...Array.from({ length: 300 }, (_, n) => node(`r${n}`, "HTTPRoute")),
  ];
  const edges = nodes.slice(2).flatMap((each) => [
    { from: "g", to: each.id, kind: "serves" as const },
    { from: each.id, to: "s", kind: "routes" as const },
  ]);
  const drawing = lay({ nodes, edges: [...edges, { from: "g", to: "nobody", kind: "serves" }] });
  assert.equal(new Set(drawing.nodes.map((each) => `${each.x} ${each.y}`)).size, 302);
  assert.equal(drawing.edges.length, 600);
  const right = walk(drawing, "g", "ArrowRight") ?? "";
  assert.match(right, /^r/);
  assert.equal(walk(drawing, right, "ArrowLeft"), "g");
  assert.equal(walk(drawing, right, "ArrowRight"), "s");
  assert.equal(walk(drawing, "s", "ArrowRight"), undefined);
});

test("tokens are taken apart, and what is none says which part is wrong", () => {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const read = takeApart(` Bearer ${part({ alg: "none" })}.${part({ sub: "ünï" })}. `);
  assert.ok(typeof read === "object");
  assert.equal(read.claims["sub"], "ünï");
  assert.equal(takeApart("a.b"), "parts");
  assert.equal(takeApart("a.b.c.d.e"), "encrypted");
  assert.equal(takeApart("!.b.c"), "header");
  assert.equal(takeApart(`${part({})}.${part([1])}.c`), "claims");
});

test("what nobody allowed is not allowed", () => {
  const who = {
    permissions: {
      Credential: {
        rotate: { allowed: true },
        revoke: { allowed: false, missing: { permission: "revoke", scope: "s", grantedBy: [] } },
      },
    },
  } as unknown as Me;
  assert.equal(missing(who, "Credential", "rotate"), undefined);
  assert.equal(missing(who, "Credential", "revoke")?.permission, "revoke");
  assert.equal(missing(who, "Credential", "delete")?.permission, "delete Credential");
  assert.ok(missing(null, "Credential", "rotate"));
});
