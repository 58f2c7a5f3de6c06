import assert from "node:assert/strict";
import { test } from "node:test";

import { readFileSync } from "node:fs";

import { changes, COUNTED, isChange, parseCount, withCounts } from "./instructions.mjs";

const BASELINE = { verify: 100000, parse: 50000, decide: 1000 };

const changed = (counts) => changes(BASELINE, counts).filter(isChange).map(({ what }) => what);

test("a difference of more than two per cent is a change", () => {
  assert.deepEqual(changed(BASELINE), []);
  assert.deepEqual(changed({ verify: 102000, parse: 49000, decide: 1020 }), []);
  assert.deepEqual(changed({ verify: 102001, parse: 50000, decide: 979 }), ["verify", "decide"]);
});

test("a count that is missing, here or in the baseline, is a change", () => {
  assert.deepEqual(changed({ verify: 100000, parse: 50000 }), ["decide"]);
  assert.ok(changes({}, BASELINE).every(isChange));
});

test("parses valgrind's count and rejects a missing one", () => {
  assert.equal(parseCount("==7== Events    : Ir\n==7== Collected : 930258\n==7== \n==7== I   refs:      930,258\n"), 930258);
  assert.throws(() => parseCount("==7== Collected : 0\n"), /no count/);
  assert.throws(() => parseCount("valgrind: no such file\n"), /no count/);
});

test("docs/performance.md has the baseline's counts", () => {
  const { counts } = JSON.parse(readFileSync("benches/instructions/baseline.json", "utf8"));
  const document = readFileSync("docs/performance.md", "utf8");
  assert.equal(withCounts(document, counts), document);
  for (const what of COUNTED) assert.ok(document.includes(`\n| \`${what}\` | ${counts[what].toLocaleString("en-US")} |`), what);
});

test("withCounts replaces the counts in a document", () => {
  const row = (count) => `| counted | instructions |\n|---|---|\n| \`parse\` | ${count} | reading |\n| other | 1 |\n`;
  assert.equal(withCounts(row("50,000"), { ...BASELINE, parse: 1234567 }), row("1,234,567"));
});
