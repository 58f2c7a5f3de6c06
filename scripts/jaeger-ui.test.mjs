// That the links of Jaeger's pages, deploy/jaeger/ui.json, lead where they say. No Jaeger takes part: a template is filled
// in as its documentation says (https://www.jaegertracing.io/docs/latest/deployment/frontend-ui/#link-patterns).
//
//     node --test scripts/jaeger-ui.test.mjs

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

const read = (path) => readFileSync(new URL(`../${path}`, import.meta.url), "utf8");
const { linkPatterns, search } = JSON.parse(read("deploy/jaeger/ui.json"));
const spans = read("src/telemetry/spans.rs");

/** The longest that the search form knows; it takes no other. */
const LONGEST = "4w";

/** A value is encoded where it stands in an address, whatever it has in it. */
function fill(template, values) {
  return template.replace(/#\{([^{}]*)\}/g, (_, name) => encodeURIComponent(values[name]));
}

for (const { type, key, url, text } of linkPatterns) {
  test(`${key}: ${text}`, () => {
    assert.equal(type, "tags");
    assert.ok(spans.includes(`"${key}"`), "the service puts it on spans");
    assert.ok(url.includes(`#{${key}}`), "the link is about the value that it is on");
    const leads = new URL(fill(url, { [key]: "an_id&more" }), "http://127.0.0.1:16686");
    if (leads.pathname !== "/search") return assert.ok(decodeURIComponent(leads.pathname).endsWith("/an_id&more"));
    assert.equal(leads.searchParams.get("service"), "billhook");
    assert.equal(leads.searchParams.get("lookback"), LONGEST);
    assert.ok(Number(leads.searchParams.get("limit")) <= search.maxLimit);
    assert.deepEqual(JSON.parse(leads.searchParams.get("tags")), { [key]: "an_id&more" });
  });
}

test("journey and tenant are searches, and the search form reaches as far as they do", () => {
  for (const key of ["billing.journey.id", "billing.tenant.id"]) {
    assert.ok(linkPatterns.some((link) => link.key === key && link.url.startsWith("/search?")), key);
  }
  assert.equal(search.maxLookback.value, LONGEST);
});
