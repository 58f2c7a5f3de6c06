// Asserts, through Jaeger's query API, that the circle of a journey is there: the checkout's trace with its milestones,
// the webhooks and the portal visit that they link to, their links back, and the search that finds them all.
//
//     node scripts/jaeger-circle.mjs --jaeger http://127.0.0.1:16686 --journey 548b905f5f39546db69f30d3d787a677
//
// It walks nothing itself: buy a plan and open the portal first. Spans arrive some seconds after what they tell of.
// Exit code 0: all of it is there. 1: something is missing, each with its line. 2: wrong usage, or no Jaeger to ask.
//
// The API is the one that Jaeger calls stable, version 3, whose answers are OTLP as JSON
// (https://www.jaegertracing.io/docs/2.21/architecture/apis/#query-json-over-http; its parameters are told in
// https://github.com/jaegertracing/jaeger-idl/blob/main/swagger/api_v3/query_service.openapi.yaml).
//
// Node and its standard library only, so that it runs where nothing has been installed.

import { parseArgs } from "node:util";

/** As long as a store may take that has to read from disk. */
const ANSWER_SECONDS = 15;

/** More traces than a journey's first days have, and few enough for one answer: Jaeger sends each of them whole. */
const SEARCH_DEPTH = 500;

/** A span's start is kept in microseconds, the end of a search excludes what starts there. */
const SEARCH_MARGIN_SECONDS = 1;

const ROOT = "create checkout session";
const STRIPE_REQUEST = "POST /v1/checkout/sessions";
const WEBHOOK_REQUEST = "POST /api/billing/webhook";
const MILESTONES = [
  "journey: customer.subscription.created",
  "journey: checkout.session.completed",
  "journey: portal opened",
];

/** OTLP's number for the kind of a span. */
const CLIENT = 3;

/** Something that the reader can mend; told in one line, without a stack. */
class Trouble extends Error {}

const tally = { checks: 0, failed: 0 };

// ---------------------------------------------------------------------------------------------------------------------

async function main() {
  const { jaeger, journey } = readArguments();
  const trace = await fetchTrace(jaeger, journey);
  const isThere = trace.length > 0;
  if (!check(isThere, `the journey's trace is there: ${trace.length} spans`, `Jaeger has no trace ${journey}`)) return;

  const root = trace.find((span) => span.name === ROOT && !span.parent);
  if (!check(root, `its root is \`${ROOT}\``, `the trace has no root \`${ROOT}\``)) return;
  checkOwners(root, `\`${ROOT}\``, journey);
  checkStripeRequest(trace, root);

  const followed = [];
  for (const name of MILESTONES) {
    const milestones = trace.filter((span) => span.name === name);
    check(milestones.length > 0, `milestone \`${name}\``, `the trace has no milestone \`${name}\``);
    for (const milestone of milestones) followed.push(await follow(jaeger, milestone, root));
  }
  await checkSearch(jaeger, root, followed.filter(Boolean));
}

function readArguments() {
  const usage = "usage: node scripts/jaeger-circle.mjs --jaeger http://127.0.0.1:16686 --journey <32 hex digits>";
  let given;
  try {
    given = parseArgs({ options: { jaeger: { type: "string" }, journey: { type: "string" } } }).values;
  } catch {
    throw new Trouble(usage);
  }
  const { journey = "", jaeger = "" } = given;
  if (!/^[0-9a-f]{32}$/.test(journey) || !/^https?:\/\//.test(jaeger) || !URL.canParse(jaeger)) throw new Trouble(usage);
  // With a slash at its end a path is kept, where Jaeger lives below one.
  return { journey, jaeger: new URL(jaeger.endsWith("/") ? jaeger : `${jaeger}/`) };
}

// What the circle is ----------------------------------------------------------------------------------------------------

/** A search by tags must match inside one span, so tenant and journey have to stand together. */
function checkOwners(span, which, journey, tenant = span.attributes["billing.tenant.id"]) {
  const { "billing.tenant.id": itsTenant, "billing.journey.id": itsJourney } = span.attributes;
  check(
    itsTenant && itsTenant === tenant && itsJourney === journey,
    `${which} bears tenant ${tenant} and the journey`,
    `${which} does not bear tenant and journey together: tenant ${itsTenant ?? "none"}, journey ${itsJourney ?? "none"}`,
  );
}

function checkStripeRequest(trace, root) {
  const which = `client span \`${STRIPE_REQUEST}\``;
  const isRequest = (span) => span.name === STRIPE_REQUEST && span.kind === CLIENT && span.parent === root.id;
  const requests = trace.filter(isRequest);
  if (!check(requests.length > 0, `${which} is a child of the root`, `the root has no ${which}`)) return;
  const ids = requests.map((span) => span.attributes["billing.stripe.request.id"]).filter(Boolean);
  check(ids.length > 0, `${which} bears ${ids.join(", ")}`, `${which} bears no billing.stripe.request.id`);
}

/** From a milestone forward to where it happened, and back. Gives the trace where it happened. */
async function follow(jaeger, milestone, root) {
  const which = `\`${milestone.name}\``;
  check(milestone.parent === root.id, `${which} is a child of the root`, `${which} is not a child of the root`);
  const link = milestone.links.find((link) => link.trace !== root.trace);
  const isLinked = check(link, `${which} links forward to trace ${link?.trace}`, `${which} links to no other trace`);
  if (!isLinked) return undefined;

  const trace = await fetchTrace(jaeger, link.trace);
  const there = trace.find((span) => span.id === link.span);
  const where = `\`${there?.name}\``;
  const isLost = `Jaeger does not have span ${link.span} of trace ${link.trace}, to which ${which} links`;
  if (!check(there, `and there to ${where}`, isLost)) return undefined;
  const isBack = (link) => link.trace === root.trace && link.span === root.id;
  check(there.links.some(isBack), `${where} links back to the root`, `${where} does not link back to the root`);
  checkOwners(there, where, root.trace, root.attributes["billing.tenant.id"]);
  return trace;
}

/** The search that an operator makes has to find what the milestones link to, above all the webhooks. */
async function checkSearch(jaeger, root, followed) {
  const webhooks = followed.filter((trace) => trace.some((span) => span.name === WEBHOOK_REQUEST));
  const count = webhooks.length;
  if (!check(count > 0, `${count} milestones lead to webhooks`, "no milestone leads to a webhook")) return;

  const starts = followed.flat().map((span) => span.startMs);
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

function check(holds, yes, no) {
  tally.checks += 1;
  if (!holds) tally.failed += 1;
  console.log(holds ? `ok       ${yes}` : `MISSING  ${no}`);
  return Boolean(holds);
}

// Jaeger's query API ----------------------------------------------------------------------------------------------------

/** The spans of a trace, none if Jaeger does not have it. */
async function fetchTrace(jaeger, id) {
  return read(await ask(new URL(`api/v3/traces/${id}`, jaeger)));
}

/** The ids of the traces in which one span of the service bears all of the attributes. */
async function searchTraces(jaeger, { service, attributes, from, to }) {
  const url = new URL("api/v3/traces", jaeger);
  url.searchParams.set("query.serviceName", service);
  url.searchParams.set("query.attributes", JSON.stringify(attributes));
  url.searchParams.set("query.startTimeMin", new Date(from).toISOString());
  url.searchParams.set("query.startTimeMax", new Date(to).toISOString());
  url.searchParams.set("query.searchDepth", SEARCH_DEPTH);
  return new Set(read(await ask(url)).map((span) => span.trace));
}

/** Jaeger's answer; nothing if it has nothing of that kind. */
async function ask(url) {
  let answer, text;
  try {
    answer = await fetch(url, { signal: AbortSignal.timeout(ANSWER_SECONDS * 1000) });
    text = await answer.text();
  } catch (error) {
    throw new Trouble(`${url.origin} cannot be reached: ${error.cause?.message || error.cause?.code || error.message}`);
  }
  if (answer.status === 404) return undefined;
  if (!answer.ok) throw new Trouble(`${url} was answered ${answer.status}: ${text.slice(0, 200).trim()}`);
  try {
    return JSON.parse(text);
  } catch {
    throw new Trouble(`${url} was not answered with JSON: is it Jaeger's address?`);
  }
}

/** OTLP as JSON, flattened to what is asked here. What has its default value is left out there: no kind, no parent. */
function read(answer) {
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
  return (answer?.result?.resourceSpans ?? []).flatMap(spansOf);
}

function plain(attributes = []) {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, value.stringValue]));
}

// ---------------------------------------------------------------------------------------------------------------------

try {
  await main();
  const { checks, failed } = tally;
  console.log(failed === 0 ? "The circle is closed." : `The circle is open: ${failed} of ${checks} checks failed.`);
  process.exitCode = failed === 0 ? 0 : 1;
} catch (error) {
  console.error(error instanceof Trouble ? `jaeger-circle: ${error.message}` : error);
  process.exitCode = 2;
}
