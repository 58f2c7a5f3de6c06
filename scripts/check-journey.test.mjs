// Tests check-journey.mjs with a complete journey, and with journeys from which something is
// missing.
//
//     node --test scripts/check-journey.test.mjs
//
// The responses are written by hand, after Jaeger 2.21's documentation; no Jaeger runs. The search
// follows the rules of the API's description: one span has all attributes, and started within the
// time range.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { createServer } from "node:http";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const SCRIPT = fileURLToPath(new URL("check-journey.mjs", import.meta.url));
const JOURNEY = "548b905f5f39546db69f30d3d787a677";
const WEBHOOKS = ["39efde859f967777a081383323680b42", "e740d5b98b9f2d57a69652bf4eda4af2"];
const PORTAL = "628bd2806b39b87c20b5d89ee4c68493";
const ATTRIBUTES = { "billing.tenant.id": "acme", "billing.journey.id": JOURNEY };
const BOUGHT_MS = Date.parse("2026-11-25T10:09:48.000Z");
const HOURS_MS = 3_600_000;

test("a complete journey passes", async () => {
  const { code, output } = await checkJourney(completeJourney());
  assert.equal(code, 0, output);
  assert.match(output, /^The journey is complete\.$/m);
  assert.doesNotMatch(output, /MISSING/);
});

test("both visits are checked when the portal was opened twice", async () => {
  const traces = completeJourney();
  traces.push(...portalVisit("8b1f1ccb6ca086be17747e22d7f68ff6", 2 * HOURS_MS));
  const { code, output } = await checkJourney(traces);
  assert.equal(code, 0, output);
  assert.match(output, /links to trace 8b1f1ccb6ca086be17747e22d7f68ff6/);
});

const MISSING = [
  ["the journey's trace", (spans) => drop(spans, (span) => span.traceId === JOURNEY), `Jaeger has no trace ${JOURNEY}`],
  [
    "the root",
    (spans) => drop(spans, named("create checkout session")),
    "the trace has no root `create checkout session`",
  ],
  [
    "a root without a parent",
    (spans) => change(spans, named("create checkout session"), (span) => (span.parentSpanId = "00000000000000ff")),
    "the trace has no root `create checkout session`",
  ],
  [
    "the tenant on the root",
    (spans) => change(spans, named("create checkout session"), without("billing.tenant.id")),
    "`create checkout session` does not have both tenant and journey: tenant none",
  ],
  [
    "the request to Stripe",
    (spans) => drop(spans, named("POST /v1/checkout/sessions")),
    "the root has no client span `POST /v1/checkout/sessions`",
  ],
  [
    "the parent of the request to Stripe",
    (spans) => change(spans, named("POST /v1/checkout/sessions"), (span) => delete span.parentSpanId),
    "the root has no client span `POST /v1/checkout/sessions`",
  ],
  [
    "the kind of the request to Stripe",
    (spans) => change(spans, named("POST /v1/checkout/sessions"), (span) => delete span.kind),
    "the root has no client span `POST /v1/checkout/sessions`",
  ],
  [
    "Stripe's id of the request",
    (spans) => change(spans, named("POST /v1/checkout/sessions"), without("billing.stripe.request.id")),
    "client span `POST /v1/checkout/sessions` has no billing.stripe.request.id",
  ],
  ...["customer.subscription.created", "checkout.session.completed", "portal opened"].flatMap((what) => [
    [
      `milestone ${what}`,
      (spans) => drop(spans, named(`journey: ${what}`)),
      `the trace has no milestone \`journey: ${what}\``,
    ],
    [
      `the parent of milestone ${what}`,
      (spans) => change(spans, named(`journey: ${what}`), (span) => (span.parentSpanId = "00000000000000ff")),
      `\`journey: ${what}\` is not a child of the root`,
    ],
    [
      `the link of milestone ${what}`,
      (spans) => change(spans, named(`journey: ${what}`), (span) => delete span.links),
      `\`journey: ${what}\` links to no other trace`,
    ],
  ]),
  [
    "a milestone's link to another trace than its own",
    (spans) => change(spans, named("journey: portal opened"), (span) => (span.links[0].traceId = JOURNEY)),
    "`journey: portal opened` links to no other trace",
  ],
  [
    "the webhook's trace",
    (spans) => drop(spans, (span) => span.traceId === WEBHOOKS[0]),
    `Jaeger does not have span ${spanId("process", WEBHOOKS[0])} of trace ${WEBHOOKS[0]}`,
  ],
  [
    "the webhook's link back",
    (spans) => change(spans, named("process checkout.session.completed"), (span) => (span.links = [])),
    "`process checkout.session.completed` does not link back to the root",
  ],
  [
    "the portal request's link to the root itself",
    (spans) => change(spans, named("create portal session"), (span) => (span.links[0].spanId = "00000000000000ff")),
    "`create portal session` does not link back to the root",
  ],
  [
    "the journey on the webhook",
    (spans) => change(spans, named("process customer.subscription.created"), without("billing.journey.id")),
    "`process customer.subscription.created` does not have both tenant and journey: tenant acme, journey none",
  ],
  [
    "the right tenant on the portal request",
    (spans) => change(spans, named("create portal session"), withAttribute("billing.tenant.id", "birch")),
    "`create portal session` does not have both tenant and journey: tenant birch",
  ],
  [
    "every webhook request",
    (spans) => drop(spans, named("POST /api/billing/webhook")),
    "no milestone links to a webhook",
  ],
];

for (const [what, remove, message] of MISSING) {
  test(`without ${what} it fails and reports it`, async () => {
    const traces = completeJourney();
    remove(traces);
    const { code, output } = await checkJourney(traces);
    assert.equal(code, 1, output);
    assert.ok(output.includes(`MISSING  ${message}`), output);
    assert.match(output, /^The journey is incomplete: \d+ of \d+ checks failed\.$/m);
  });
}

test("a webhook that the search does not find is reported", async () => {
  const search = (spans) => spans.filter((span) => span.traceId !== WEBHOOKS[1]);
  const { code, output } = await checkJourney(completeJourney(), { search });
  assert.equal(code, 1, output);
  assert.ok(output.includes(`MISSING  a search for billing.journey.id does not find webhook ${WEBHOOKS[1]}`), output);
  assert.ok(output.includes(`ok       a search for billing.journey.id finds webhook ${WEBHOOKS[0]}`), output);
});

test("a search without results fails", async () => {
  const { code, output } = await checkJourney(completeJourney(), { search: () => [] });
  assert.equal(code, 1, output);
  assert.match(output, /does not find webhook/);
});

test("Jaeger's base path is kept", async () => {
  const { code, output } = await checkJourney(completeJourney(), { basePath: "/jaeger" });
  assert.equal(code, 0, output);
});

for (const args of [
  [],
  ["--journey", JOURNEY],
  ["--jaeger", "http://127.0.0.1:16686"],
  ["--jaeger", "127.0.0.1:16686", "--journey", JOURNEY],
  ["--jaeger", "http://127.0.0.1:16686", "--journey", "548b905f"],
  ["--jaeger", "http://127.0.0.1:16686", "--journey", JOURNEY, "--tenant", "acme"],
]) {
  test(`wrong usage is exit code 2: ${args.join(" ") || "no arguments"}`, async () => {
    const { code, output } = await run(args);
    assert.equal(code, 2, output);
    assert.match(output, /^check-journey: usage: /);
  });
}

test("an unreachable Jaeger is exit code 2", async () => {
  const server = await listen(() => {});
  const url = address(server);
  await new Promise((resolve) => server.close(resolve));
  const { code, output } = await run(["--jaeger", url, "--journey", JOURNEY]);
  assert.equal(code, 2, output);
  assert.match(output, /cannot be reached/);
});

for (const [what, status, body, message] of [
  ["an error from Jaeger", 500, '{"error":{"httpCode":500,"message":"the store is down"}}', "returned 500"],
  ["another server than Jaeger", 200, "<!doctype html><title>Welcome</title>", "did not return JSON"],
]) {
  test(`${what} is exit code 2`, async () => {
    const server = await listen((_, response) => response.writeHead(status).end(body));
    const { code, output } = await run(["--jaeger", address(server), "--journey", JOURNEY]);
    server.close();
    assert.equal(code, 2, output);
    assert.ok(output.includes(message), output);
  });
}

// A complete journey, as Jaeger returns it -------------------------------------------------------------------------------

function completeJourney() {
  return [
    span(JOURNEY, "root", "create checkout session", { attributes: { ...ATTRIBUTES, "user.id": "ada-1" } }),
    span(JOURNEY, "stripe", "POST /v1/checkout/sessions", {
      parent: "root",
      kind: 3,
      attributes: { "billing.stripe.request.id": "req_jPEQPGk61sPA6h" },
    }),
    ...webhook(WEBHOOKS[0], "checkout.session.completed", 60_000),
    ...webhook(WEBHOOKS[1], "customer.subscription.created", 61_000),
    ...portalVisit(PORTAL, HOURS_MS),
  ];
}

function webhook(trace, type, afterMs) {
  const attributes = { ...ATTRIBUTES, "billing.stripe.event.type": type, "billing.outcome": "applied" };
  const process = { parent: "request", kind: 5, attributes, afterMs, links: [[JOURNEY, "root"]] };
  const milestone = { parent: "root", attributes, afterMs, links: [[trace, "process"]] };
  return [
    span(trace, "request", "POST /api/billing/webhook", { kind: 2, attributes, afterMs }),
    span(trace, "process", `process ${type}`, process),
    span(JOURNEY, type, `journey: ${type}`, milestone),
  ];
}

function portalVisit(trace, afterMs) {
  const visit = { parent: "request", attributes: ATTRIBUTES, afterMs, links: [[JOURNEY, "root"]] };
  const milestone = { parent: "root", attributes: ATTRIBUTES, afterMs, links: [[trace, "visit"]] };
  return [
    span(trace, "request", "POST /api/billing/create-portal-session", { kind: 2, afterMs }),
    span(trace, "visit", "create portal session", visit),
    span(JOURNEY, `portal ${trace}`, "journey: portal opened", milestone),
  ];
}

/** A span as in OTLP's JSON: times are strings, and default values are left out. */
function span(trace, key, name, { parent, kind, attributes = {}, links = [], afterMs = 0 }) {
  const link = ([linkedTrace, linkedKey]) => ({ traceId: linkedTrace, spanId: spanId(linkedKey, linkedTrace) });
  return {
    traceId: trace,
    spanId: spanId(key, trace),
    ...(parent && { parentSpanId: spanId(parent, trace) }),
    name,
    ...(kind && { kind }),
    startTimeUnixNano: `${BOUGHT_MS + afterMs}000000`,
    endTimeUnixNano: `${BOUGHT_MS + afterMs}500000`,
    attributes: Object.entries(attributes).map(([key, value]) => ({ key, value: { stringValue: value } })),
    links: links.map(link),
    status: {},
  };
}

function spanId(key, trace) {
  return createHash("sha256").update(`${key} ${trace}`).digest("hex").slice(0, 16);
}

function named(name) {
  return (span) => span.name === name;
}

function drop(spans, unwanted) {
  spans.splice(0, spans.length, ...spans.filter((span) => !unwanted(span)));
}

function change(spans, wanted, how) {
  const changed = spans.filter(wanted);
  assert.ok(changed.length > 0, "there is a span to change");
  changed.forEach(how);
}

function without(key) {
  return (span) => (span.attributes = span.attributes.filter((attribute) => attribute.key !== key));
}

function withAttribute(key, value) {
  return (span) => {
    without(key)(span);
    span.attributes.push({ key, value: { stringValue: value } });
  };
}

// A fake Jaeger, and the script -----------------------------------------------------------------------------------------

/** Runs the script against a Jaeger that has these spans. */
async function checkJourney(spans, { search = (found) => found, basePath = "" } = {}) {
  const server = await listen((request, response) => {
    const url = new URL(request.url, "http://jaeger");
    const path = url.pathname.startsWith(basePath) ? url.pathname.slice(basePath.length) : "";
    const [, id] = /^\/api\/v3\/traces\/([0-9a-f]{32})$/.exec(path) ?? [];
    if (id) return respond(response, spans.filter((span) => span.traceId === id));
    if (path === "/api/v3/traces") return respond(response, search(find(spans, url.searchParams)));
    response.writeHead(400).end(`{"error":{"httpCode":400,"message":"no such path: ${path}"}}`);
  });
  const result = await run(["--jaeger", `${address(server)}${basePath}`, "--journey", JOURNEY]);
  server.close();
  return result;
}

function find(spans, query) {
  assert.equal(query.get("query.serviceName"), "billhook");
  assert.match(query.get("query.searchDepth"), /^[1-9][0-9]*$/);
  const [from, to] = ["query.startTimeMin", "query.startTimeMax"].map((name) => Date.parse(query.get(name)) * 1e6);
  const wanted = Object.entries(JSON.parse(query.get("query.attributes")));
  const has = (span, [key, value]) => span.attributes.some((a) => a.key === key && a.value.stringValue === value);
  const isWithin = ({ startTimeUnixNano: start }) => Number(start) >= from && Number(start) < to;
  const matching = spans.filter((span) => isWithin(span) && wanted.every((attribute) => has(span, attribute)));
  const traces = new Set(matching.map((span) => span.traceId));
  return spans.filter((span) => traces.has(span.traceId));
}

function respond(response, spans) {
  if (spans.length === 0) {
    return response.writeHead(404).end('{"error":{"httpCode":404,"message":"No traces found"}}');
  }
  const resource = { attributes: [{ key: "service.name", value: { stringValue: "billhook" } }] };
  const scope = { name: "billhook" };
  const resourceSpans = spans.map((span) => ({ resource, scopeSpans: [{ scope, spans: [span] }] }));
  response.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify({ result: { resourceSpans } }));
}

function listen(handle) {
  return new Promise((resolve) => {
    const server = createServer(handle);
    server.listen(0, "127.0.0.1", () => resolve(server));
  });
}

function address(server) {
  return `http://127.0.0.1:${server.address().port}`;
}

function run(args) {
  return new Promise((resolve) => {
    const script = spawn(process.execPath, [SCRIPT, ...args], { stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    for (const stream of [script.stdout, script.stderr]) stream.on("data", (data) => (output += data));
    script.once("close", (code) => resolve({ code, output }));
  });
}
