// Checks in Jaeger that a journey is complete: the checkout's trace with its milestones, the
// webhooks and the portal request that they link to, the links back, and that a search finds them.
//
//     node scripts/check-journey.mjs --jaeger http://127.0.0.1:16686 --journey 548b905f5f39546db69f30d3d787a677
//
// Buy a plan and open the portal first. Spans arrive some seconds after the requests. Exit codes: 0
// complete; 1 something is missing, with a line for each; 2 wrong usage, or Jaeger cannot be
// reached.
//
// It uses Jaeger's stable query API, version 3, which returns OTLP as JSON
// (https://www.jaegertracing.io/docs/2.21/architecture/apis/#query-json-over-http; parameters:
// https://github.com/jaegertracing/jaeger-idl/blob/main/swagger/api_v3/query_service.openapi.yaml).
//
// Needs only Node's standard library, so that it runs without an installation.

import { parseArgs } from "node:util";

/** Enough for a store that reads from disk. */
const REQUEST_TIMEOUT_SECONDS = 15;

/** More traces than a journey has in its first days, and few enough for one response, which contains each trace as a whole. */
const MAX_TRACES = 500;

/** Jaeger stores starts in microseconds, and a search excludes spans that start at its end. */
const SEARCH_MARGIN_SECONDS = 1;

const ROOT = "create checkout session";
const STRIPE_REQUEST = "POST /v1/checkout/sessions";
const WEBHOOK_REQUEST = "POST /api/billing/webhook";
const MILESTONES = [
  "journey: customer.subscription.created",
  "journey: checkout.session.completed",
  "journey: portal opened",
];

/** OTLP's `SPAN_KIND_CLIENT`. */
const CLIENT_KIND = 3;

/** An error that the user can fix. Printed in one line, without a stack trace. */
class UserError extends Error {}

const counts = { checks: 0, failed: 0 };

// ---------------------------------------------------------------------------------------------------------------------

async function main() {
  const { jaeger, journey } = readArguments();
  const trace = await fetchTrace(jaeger, journey);
  const found = trace.length > 0;
  if (!check(found, `Jaeger has the journey's trace: ${trace.length} spans`, `Jaeger has no trace ${journey}`)) return;

  const root = trace.find((span) => span.name === ROOT && !span.parent);
  if (!check(root, `its root is \`${ROOT}\``, `the trace has no root \`${ROOT}\``)) return;
  checkAttributes(root, `\`${ROOT}\``, journey);
  checkStripeRequest(trace, root);

  const linked = [];
  for (const name of MILESTONES) {
    const milestones = trace.filter((span) => span.name === name);
    check(milestones.length > 0, `milestone \`${name}\``, `the trace has no milestone \`${name}\``);
    for (const milestone of milestones) linked.push(await checkMilestone(jaeger, milestone, root));
  }
  await checkSearch(jaeger, root, linked.filter(Boolean));
}

function readArguments() {
  const usage = "usage: node scripts/check-journey.mjs --jaeger http://127.0.0.1:16686 --journey <32 hex digits>";
  let values;
  try {
    values = parseArgs({ options: { jaeger: { type: "string" }, journey: { type: "string" } } }).values;
  } catch {
    throw new UserError(usage);
  }
  const { journey = "", jaeger = "" } = values;
  if (!/^[0-9a-f]{32}$/.test(journey) || !/^https?:\/\//.test(jaeger) || !URL.canParse(jaeger)) throw new UserError(usage);
  // The trailing slash keeps Jaeger's base path in relative URLs.
  return { journey, jaeger: new URL(jaeger.endsWith("/") ? jaeger : `${jaeger}/`) };
}

// The checks -------------------------------------------------------------------------------------------------------------

/** Tenant and journey must be on the same span, because a tag search matches within one span only. */
function checkAttributes(span, which, journey, tenant = span.attributes["billing.tenant.id"]) {
  const { "billing.tenant.id": itsTenant, "billing.journey.id": itsJourney } = span.attributes;
  check(
    itsTenant && itsTenant === tenant && itsJourney === journey,
    `${which} has tenant ${tenant} and the journey`,
    `${which} does not have both tenant and journey: tenant ${itsTenant ?? "none"}, journey ${itsJourney ?? "none"}`,
  );
}

function checkStripeRequest(trace, root) {
  const which = `client span \`${STRIPE_REQUEST}\``;
  const isRequest = (span) => span.name === STRIPE_REQUEST && span.kind === CLIENT_KIND && span.parent === root.id;
  const requests = trace.filter(isRequest);
  if (!check(requests.length > 0, `${which} is a child of the root`, `the root has no ${which}`)) return;
  const ids = requests.map((span) => span.attributes["billing.stripe.request.id"]).filter(Boolean);
  check(ids.length > 0, `${which} has ${ids.join(", ")}`, `${which} has no billing.stripe.request.id`);
}

/** Checks the milestone's link to the span where it happened, and that span's link back. Returns the linked trace. */
async function checkMilestone(jaeger, milestone, root) {
  const which = `\`${milestone.name}\``;
  check(milestone.parent === root.id, `${which} is a child of the root`, `${which} is not a child of the root`);
  const link = milestone.links.find((link) => link.trace !== root.trace);
  const isLinked = check(link, `${which} links to trace ${link?.trace}`, `${which} links to no other trace`);
  if (!isLinked) return undefined;

  const trace = await fetchTrace(jaeger, link.trace);
  const target = trace.find((span) => span.id === link.span);
  const targetName = `\`${target?.name}\``;
  const missing = `Jaeger does not have span ${link.span} of trace ${link.trace}, to which ${which} links`;
  if (!check(target, `and there to ${targetName}`, missing)) return undefined;
  const isBack = (link) => link.trace === root.trace && link.span === root.id;
  check(target.links.some(isBack), `${targetName} links back to the root`, `${targetName} does not link back to the root`);
  checkAttributes(target, targetName, root.trace, root.attributes["billing.tenant.id"]);
  return trace;
}

/** An operator's search by journey must find the linked webhooks. */
async function checkSearch(jaeger, root, linked) {
  const webhooks = linked.filter((trace) => trace.some((span) => span.name === WEBHOOK_REQUEST));
  const count = webhooks.length;
  if (!check(count > 0, `${count} milestones link to webhooks`, "no milestone links to a webhook")) return;

  const starts = linked.flat().map((span) => span.startMs);
  const found = await searchTraces(jaeger, {
    service: root.service,
    attributes: { "billing.journey.id": root.trace },
    from: root.startMs - SEARCH_MARGIN_SECONDS * 1000,
    to: Math.max(...starts) + SEARCH_MARGIN_SECONDS * 1000,
  });
  for (const [{ trace }] of webhooks) {
    const search = "a search for billing.journey.id";
    check(found.has(trace), `${search} finds webhook ${trace}`, `${search} does not find webhook ${trace}`);
  }
}

function check(passed, success, failure) {
  counts.checks += 1;
  if (!passed) counts.failed += 1;
  console.log(passed ? `ok       ${success}` : `MISSING  ${failure}`);
  return Boolean(passed);
}

// Jaeger's query API ----------------------------------------------------------------------------------------------------

/** The spans of a trace, or none if Jaeger does not have it. */
async function fetchTrace(jaeger, id) {
  return parseSpans(await fetchJson(new URL(`api/v3/traces/${id}`, jaeger)));
}

/** The ids of the traces in which one span of the service has all of the attributes. */
async function searchTraces(jaeger, { service, attributes, from, to }) {
  const url = new URL("api/v3/traces", jaeger);
  url.searchParams.set("query.serviceName", service);
  url.searchParams.set("query.attributes", JSON.stringify(attributes));
  url.searchParams.set("query.startTimeMin", new Date(from).toISOString());
  url.searchParams.set("query.startTimeMax", new Date(to).toISOString());
  url.searchParams.set("query.searchDepth", MAX_TRACES);
  return new Set(parseSpans(await fetchJson(url)).map((span) => span.trace));
}

/** Undefined for a 404. */
async function fetchJson(url) {
  let response, text;
  try {
    response = await fetch(url, { signal: AbortSignal.timeout(REQUEST_TIMEOUT_SECONDS * 1000) });
    text = await response.text();
  } catch (error) {
    throw new UserError(`${url.origin} cannot be reached: ${error.cause?.message || error.cause?.code || error.message}`);
  }
  if (response.status === 404) return undefined;
  if (!response.ok) throw new UserError(`${url} returned ${response.status}: ${text.slice(0, 200).trim()}`);
  try {
    return JSON.parse(text);
  } catch {
    throw new UserError(`${url} did not return JSON: is it Jaeger's address?`);
  }
}

/** Flattens OTLP as JSON, which leaves out default values: no kind, no parent. */
function parseSpans(response) {
  const spansOf = ({ resource, scopeSpans = [] }) =>
    scopeSpans.flatMap(({ spans = [] }) => spans).map((span) => ({
      trace: span.traceId,
      id: span.spanId,
      parent: span.parentSpanId,
      name: span.name,
      kind: span.kind,
      startMs: Number(span.startTimeUnixNano) / 1e6,
      service: plain(resource?.attributes)["service.name"],
      attributes: plain(span.attributes),
      links: (span.links ?? []).map((link) => ({ trace: link.traceId, span: link.spanId })),
    }));
  return (response?.result?.resourceSpans ?? []).flatMap(spansOf);
}

function plain(attributes = []) {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, value.stringValue]));
}

// ---------------------------------------------------------------------------------------------------------------------

try {
  await main();
  const { checks, failed } = counts;
  console.log(failed === 0 ? "The journey is complete." : `The journey is incomplete: ${failed} of ${checks} checks failed.`);
  process.exitCode = failed === 0 ? 0 : 1;
} catch (error) {
  console.error(error instanceof UserError ? `check-journey: ${error.message}` : error);
  process.exitCode = 2;
}
