// Checks the link patterns of deploy/jaeger/ui.json without Jaeger: fills in the templates as its
// documentation describes
// (https://www.jaegertracing.io/docs/latest/deployment/frontend-ui/#link-patterns).
//
//     node --test scripts/jaeger-ui.test.mjs

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

const read = (path) => readFileSync(new URL(`../${path}`, import.meta.url), "utf8");
const { linkPatterns, search } = JSON.parse(read("deploy/jaeger/ui.json"));
const spans = read("src/telemetry/spans.rs");

/** The longest lookback that the search form accepts. */
const MAX_LOOKBACK = "4w";

/** Values are URL-encoded. */
function fill(template, values) {
  return template.replace(/#\{([^{}]*)\}/g, (_, name) => encodeURIComponent(values[name]));
}

for (const { type, key, url, text } of linkPatterns) {
  test(`${key}: ${text}`, () => {
    assert.equal(type, "tags");
    assert.ok(spans.includes(`"${key}"`), "the service sets the attribute");
    assert.ok(url.includes(`#{${key}}`), "the link contains the attribute's value");
    const target = new URL(fill(url, { [key]: "an_id&more" }), "http://127.0.0.1:16686");
    if (target.pathname !== "/search") return assert.ok(decodeURIComponent(target.pathname).endsWith("/an_id&more"));
    assert.equal(target.searchParams.get("service"), "billhook");
    assert.equal(target.searchParams.get("lookback"), MAX_LOOKBACK);
    assert.ok(Number(target.searchParams.get("limit")) <= search.maxLimit);
    assert.deepEqual(JSON.parse(target.searchParams.get("tags")), { [key]: "an_id&more" });
  });
}

test("journey and tenant have search links, and the search form allows their lookback", () => {
  for (const key of ["billing.journey.id", "billing.tenant.id"]) {
    assert.ok(linkPatterns.some((link) => link.key === key && link.url.startsWith("/search?")), key);
  }
  assert.equal(search.maxLookback.value, MAX_LOOKBACK);
});
