// A complete billing system on this machine: the service with its page, a Stripe double, and two
// tenants.
//
//     node scripts/demo.mjs                what `make run` does: starts everything, prints what to try, runs until Ctrl-C
//     node scripts/demo.mjs --walk         a smoke test: buys and cancels by itself, and exits 0 or 1
//     node scripts/demo.mjs --aside NAME   runs beside another demo, on free ports that it writes to .demo/NAME/system.json
//     node scripts/demo.mjs --app URL      uses an app at another address as return target, such as `npm run dev`
//     node scripts/demo.mjs --no-build     (with any of them) does not build the programs
//
// Needs only Node's standard library, so that it runs without an installation.

import { spawn, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, openSync, closeSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, connect } from "node:net";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const START_SECONDS = 30;
const SETTLE_SECONDS = 15;
const STOP_SECONDS = 10;
const HTTP_SECONDS = 15;
const POLL_MILLISECONDS = 100;

/** Built by `make page`. */
const BUILT_PAGE = "frontend/dist/demo";

const USAGE = "usage: node scripts/demo.mjs [--walk] [--aside NAME] [--app URL] [--no-build]";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");

/** An error that the user can fix. Printed in one line, without a stack trace. */
class UserError extends Error {}

let walking = false;

const children = [];
let stopping = false;

// ---------------------------------------------------------------------------------------------------------------------

async function main() {
  if (Number.parseInt(process.versions.node, 10) < 20) throw new UserError(`needs Node 20 or newer; this is ${process.version}`);
  const options = readOptions();
  walking = options.walk;
  process.chdir(root);

  const setup = await chooseSetup(options);
  const programs = build(options);
  prepare(setup);
  const users = mintUsers(programs, setup);
  const sandbox = start("sandbox", programs, setup, [
    "--listen", setup.sandbox.address,
    "--webhook-url", `${setup.service.url}/api/billing/webhook/`,
    "--webhook-secret", setup.env.STRIPE_WEBHOOK_SECRET,
  ]);
  await until("the Stripe double to listen", START_SECONDS, () => accepts(setup.sandbox), sandbox);
  const service = start("billhook", programs, setup, ["serve"]);
  await until("the service to be ready", START_SECONDS, () => isReady(setup), service);

  if (walking) {
    await walk(programs, setup);
    await stop();
    return;
  }
  await checkOut(setup, users.birch);
  if (options.aside) writeSystemFile(setup);
  await printInstructions(setup);
  printJourneyCommands(programs, setup, "birch", await journeyOf(programs, setup, "birch"));
  await Promise.race(children.map((child) => child.ended));
  if (!stopping) throw new UserError(`${children.find((child) => child.over).name} ended unexpectedly`);
}

function readOptions() {
  const known = {
    walk: { type: "boolean", default: false },
    aside: { type: "string" },
    app: { type: "string" },
    "no-build": { type: "boolean", default: false },
  };
  let options;
  try {
    options = parseArgs({ options: known }).values;
  } catch {
    throw new UserError(USAGE);
  }
  if (options.aside !== undefined && !/^[a-z0-9-]+$/.test(options.aside)) throw new UserError(`NAME may contain a-z, 0-9 and -; ${USAGE}`);
  // The walk also uses free ports, so that it can run beside a demo or in another checkout.
  return { ...options, aside: options.walk ? "walk" : options.aside };
}

/** The addresses, directories and environment of this run. */
async function chooseSetup({ aside, app }) {
  const [sandboxPort, servicePort] = aside ? await freePorts(2) : [12111, 8080];
  const dir = aside ? `.demo/${aside}` : ".demo";
  const logs = aside ? `${dir}/logs` : "logs";
  const page = `${dir}/page`;
  const sandbox = listener(sandboxPort);
  const service = listener(servicePort);
  if (!aside) {
    await assertFree(sandbox, "the Stripe double");
    await assertFree(service, "the service");
  }

  // The shell may contain a real key, or settings of another deployment.
  const inherited = Object.entries(process.env).filter(([name]) => !/^(STRIPE_|BILLHOOK_|SANDBOX_|DATABASE_URL$)/.test(name));
  const env = {
    ...Object.fromEntries(inherited),
    STRIPE_SECRET_KEY: "sk_test_sandbox",
    STRIPE_WEBHOOK_SECRET: "whsec_sandbox_for_the_demo_only",
    STRIPE_API_BASE: sandbox.url,
    DATABASE_URL: `sqlite://${dir}/billhook.db?mode=rwc`,
    BILLHOOK_LISTEN: service.address,
    // No load balancer needs time to notice that it stops.
    BILLHOOK_STOP_DELAY_SECONDS: "0",
    BILLHOOK_APP_URL: app ?? service.url,
    BILLHOOK_PLANS: "pro=pro_monthly,price_pro_yearly;team=team_monthly",
    BILLHOOK_JWT_SECRET: "for-the-demo-only-7c1e94d05ab86f23e1",
    BILLHOOK_LOG_DIR: logs,
    ...(existsSync(BUILT_PAGE) && { BILLHOOK_STATIC_DIR: page }),
  };
  return { sandbox, service, dir, logs, page, env };
}

/** Builds both programs and returns their directory. */
function build({ "no-build": isBuilt }) {
  if (!isBuilt) {
    console.log("Building (cargo build). The first build takes some minutes.");
    const built = spawnSync("cargo", ["build", "--workspace", "--bins"], { stdio: "inherit" });
    if (built.error) throw new UserError(`cargo could not be run: ${built.error.message}`);
    if (built.signal || built.status === 130) process.exit(130);
    if (built.status !== 0) throw new UserError("the build failed");
  }
  // An environment variable or a configuration file of Cargo may set the target directory.
  const metadata = spawnSync("cargo", ["metadata", "--format-version", "1", "--no-deps", "--offline"], { maxBuffer: 64 << 20 });
  if (metadata.status !== 0) throw new UserError(`cargo metadata failed: ${metadata.stderr}`);
  return join(JSON.parse(metadata.stdout).target_directory, "debug");
}

/** Deletes the old database, because the double loses its data when it stops. */
function prepare(setup) {
  mkdirSync(setup.dir, { recursive: true });
  for (const suffix of ["", "-wal", "-shm"]) rmSync(join(setup.dir, `billhook.db${suffix}`), { force: true });
  if (setup.logs !== "logs") rmSync(setup.logs, { recursive: true, force: true });
  // A copy, because the demo's tokens do not belong into the build output.
  rmSync(setup.page, { recursive: true, force: true });
  if (existsSync(BUILT_PAGE)) cpSync(BUILT_PAGE, setup.page, { recursive: true });
}

/** Creates a token for a user of each tenant: in a file each, and in one file that the demo page reads. */
function mintUsers(programs, setup) {
  const acme = mint(programs, setup, "acme", "ada-1");
  const birch = mint(programs, setup, "birch", "bo-1");
  if (existsSync(setup.page)) {
    // Every local user can read them over HTTP. They are only valid for this demo.
    const users = [
      { tenant: "acme", about: "a new tenant", token: acme },
      { tenant: "birch", about: "has bought Pro", token: birch },
    ];
    writeFileSync(join(setup.page, "demo-tokens.json"), JSON.stringify(users), { mode: 0o600 });
  }
  return { acme, birch };
}

/** For programs that start this script. */
function writeSystemFile(setup) {
  const system = { service: setup.service.url, sandbox: setup.sandbox.url, jwtSecret: setup.env.BILLHOOK_JWT_SECRET };
  writeFileSync(join(setup.dir, "system.json"), JSON.stringify(system), { mode: 0o600 });
}

/** Token, checkout, payment, webhook, plan, portal, cancellation. */
async function walk(programs, setup) {
  const token = mint(programs, setup, "cedar", "cleo-1");
  step("token", "minted for tenant cedar");

  const before = await subscription(setup, token);
  expect(before.plan === "free", "a new tenant's plan is free", before);
  step("subscription", "plan free");

  const session = await checkOut(setup, token);
  step("checkout", `session ${session.session_id} created and paid`);
  step("webhook", "plan pro");

  const portal = await post(setup, token, "create-portal-session", {});
  step("portal", "session created");
  await cancelInPortal(portal.url);
  step("cancel", "with the form of the portal's page");

  const after = await subscriptionOnce(setup, token, "the cancellation to arrive", (s) => s.scheduled_cancel === true);
  expect(after.plan === "pro", "a cancelled subscription keeps its plan until the period ends", after);
  step("webhook", `scheduled_cancel true, plan pro until ${after.cancel_at ?? after.current_period_end}`);

  for (const [file, event] of [
    ["billing.log", "portal.create.success"],
    ["webhook_signatures.log", "signature.accepted"],
    ["subscription_state.log", "subscription.transition"],
  ]) {
    await until(`${event} in ${file}`, SETTLE_SECONDS, () => logged(join(setup.logs, file)).some((line) => line.event === event));
    step("log", `${event} in ${file}`);
  }
  const journey = await journeyOf(programs, setup, "cedar");
  for (const file of ["billing.log", "webhook_signatures.log", "subscription_state.log"]) {
    const lines = logged(join(setup.logs, file)).filter((line) => line.journey_id === journey);
    expect(lines.length > 0, `${file} has lines of the journey ${journey}`, lines);
  }
  step("journey", `${journey}, in all three files`);
  console.log("All steps succeeded.");
  printJourneyCommands(programs, setup, "cedar", journey);
}

/** Buys the first plan as a customer would, and waits until the webhook is applied. */
async function checkOut(setup, token) {
  const session = await post(setup, token, "create-checkout-session", {});
  const paid = await request(`${setup.sandbox.url}/_sandbox/checkout/${session.session_id}/pay`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ card: "ok" }),
  });
  expect(paid.ok, "the double accepts the payment", paid.text);
  await subscriptionOnce(setup, token, "the paid plan to arrive by webhook", (s) => s.plan === "pro" && s.access === true);
  return session;
}

/** Submits the portal page's form that cancels, as a browser would. */
async function cancelInPortal(url) {
  const page = await request(url);
  expect(page.ok, "the portal's page opens", page.status);
  const form = [...page.text.matchAll(/<form\b([^>]*)>(.*?)<\/form>/gis)]
    .map(([, attributes, inside]) => ({ attributes, inside }))
    .find(({ inside }) => /\bname="?action\b/i.test(inside) && /\bvalue="?cancel\b/i.test(inside));
  expect(form, "the portal's page has a form that cancels", page.text.slice(0, 2000));

  const fields = new URLSearchParams();
  for (const [input] of form.inside.matchAll(/<input\b[^>]*>/gis)) {
    if (attribute(input, "name")) fields.set(attribute(input, "name"), attribute(input, "value") ?? "");
  }
  fields.set("action", "cancel");
  const target = new URL(attribute(form.attributes, "action") ?? "", url);
  const sent = await request(target, { method: "POST", body: fields, redirect: "manual" });
  expect(sent.status < 400, "the portal accepts the cancellation", `${sent.status} ${sent.text.slice(0, 500)}`);
}

function attribute(tag, name) {
  const found = new RegExp(`\\b${name}\\s*=\\s*(?:"([^"]*)"|'([^']*)'|([^\\s>]+))`, "i").exec(tag);
  return found?.[1] ?? found?.[2] ?? found?.[3];
}

async function printInstructions(setup) {
  const api = `${setup.service.url}/api/billing`;
  const page = `${setup.service.url}/billing`;
  const hasPage = (await request(page, { headers: { Accept: "text/html" } })).ok;
  console.log(`
Billhook is up. acme is a new tenant; birch has paid for Pro already.
${hasPage ? `
The billing page, to buy, manage and cancel in a browser:

  ${page}
` : ""}
In another terminal, in this directory (or with ${setup.dir}/birch.token):

  TOKEN=$(cat ${setup.dir}/acme.token); API=${api}; JSON='Content-Type: application/json'

What is acme entitled to?
  curl -s $API/subscription/ -H "Authorization: Bearer $TOKEN"

Check out: open the url that this prints, press Pay, and ask again: plan pro.
  curl -s $API/create-checkout-session/ -H "Authorization: Bearer $TOKEN" -H "$JSON" -d '{}'

Into the portal: open the url, cancel, and ask again: scheduled_cancel true.
  curl -s $API/create-portal-session/ -H "Authorization: Bearer $TOKEN" -H "$JSON" -d '{}'

API documentation     ${setup.service.url}/docs
Topic logs            ${setup.logs}/billing.log, webhook_signatures.log, subscription_state.log
Output of programs    ${setup.dir}/billhook.log, ${setup.dir}/sandbox.log

Stripe's pages send you back to ${setup.env.BILLHOOK_APP_URL}${hasPage ? "" : ", where your own app would be"}. Ctrl-C stops everything.`);
}

/** Commands that find everything after a checkout by its journey id. */
function printJourneyCommands(programs, setup, tenant, journey) {
  const database = `DATABASE_URL=${setup.env.DATABASE_URL.split("?")[0]}`;
  const exported = setup.env.OTEL_EXPORTER_OTLP_ENDPOINT ? "" : "  (set OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4317 before the start)";
  console.log(`
The journey of ${tenant}'s checkout:
  grep -h ${journey} ${setup.logs}/*.log* | sort
  ${database} ${relative(root, join(programs, "billhook"))} tenant show ${tenant} --timeline
and in Jaeger${exported}:
  http://127.0.0.1:16686/trace/${journey}`);
}

// The service, as its users see it --------------------------------------------------------------------------------------

function mint(programs, setup, tenant, user) {
  const minted = spawnSync(join(programs, "billhook"), ["token", "--tenant", tenant, "--user", user], { env: setup.env });
  if (minted.status !== 0) throw new UserError(`billhook token failed: ${minted.error?.message ?? minted.stderr}`);
  const token = minted.stdout.toString().trim();
  writeFileSync(join(setup.dir, `${tenant}.token`), `${token}\n`, { mode: 0o600 });
  return token;
}

/** The journey id of the tenant's checkout. It becomes the tenant's when the session's event is applied. */
async function journeyOf(programs, setup, tenant) {
  let journey;
  await until(`${tenant}'s journey`, SETTLE_SECONDS, () => {
    const shown = spawnSync(join(programs, "billhook"), ["tenant", "show", tenant, "--json"], { env: setup.env });
    if (shown.status !== 0) throw new UserError(`billhook tenant show failed: ${shown.error?.message ?? shown.stderr}`);
    journey = JSON.parse(shown.stdout).journey_id;
    return /^[0-9a-f]{32}$/.test(journey);
  });
  return journey;
}

async function subscription(setup, token) {
  const response = await request(`${setup.service.url}/api/billing/subscription/`, { headers: bearer(token) });
  expect(response.status === 200, "the subscription can be read", `${response.status} ${response.text}`);
  return JSON.parse(response.text);
}

/** Waits until the subscription meets the condition, and returns it. */
async function subscriptionOnce(setup, token, what, condition) {
  let last;
  const isMet = async () => condition((last = await subscription(setup, token)));
  await until(what, SETTLE_SECONDS, isMet, undefined, () => JSON.stringify(last));
  return last;
}

async function post(setup, token, call, body) {
  const response = await request(`${setup.service.url}/api/billing/${call}/`, {
    method: "POST",
    headers: { ...bearer(token), "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  expect(response.status === 200, `${call} returns 200`, `${response.status} ${response.text}`);
  return JSON.parse(response.text);
}

function bearer(token) {
  return { Authorization: `Bearer ${token}` };
}

async function isReady(setup) {
  return (await request(`${setup.service.url}/readyz`).catch(() => undefined))?.status === 200;
}

async function request(url, options = {}) {
  const response = await fetch(url, { signal: AbortSignal.timeout(HTTP_SECONDS * 1000), ...options });
  return { ok: response.ok, status: response.status, text: await response.text() };
}

/** The lines of a topic's file, without one that is not completely written yet. */
function logged(path) {
  let lines;
  try {
    lines = readFileSync(path, "utf8").split("\n");
  } catch {
    return [];
  }
  return lines.flatMap((line) => {
    try {
      return [JSON.parse(line)];
    } catch {
      return [];
    }
  });
}

// Ports -------------------------------------------------------------------------------------------------------------------

function listener(port) {
  return { port, address: `127.0.0.1:${port}`, url: `http://127.0.0.1:${port}` };
}

function listenOn(port) {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen({ host: "127.0.0.1", port }, () => resolve(server));
  });
}

async function assertFree({ port, address }, program) {
  try {
    const server = await listenOn(port);
    await new Promise((resolve) => server.close(resolve));
  } catch (error) {
    if (error.code === "EADDRINUSE") {
      throw new UserError(
        `another process listens on ${address}, which ${program} needs. Stop it (another demo?), or run this demo on free ports: ` +
          "node scripts/demo.mjs --aside NAME",
      );
    }
    throw new UserError(`cannot listen on ${address}: ${error.message}`);
  }
}

async function freePorts(count) {
  const servers = await Promise.all(Array.from({ length: count }, () => listenOn(0)));
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

function accepts({ port }) {
  return new Promise((resolve) => {
    const socket = connect({ host: "127.0.0.1", port });
    socket.once("connect", () => (socket.destroy(), resolve(true)));
    socket.once("error", () => resolve(false));
  });
}

// Processes ---------------------------------------------------------------------------------------------------------------

function start(name, programs, setup, args) {
  const log = join(setup.dir, `${name}.log`);
  const output = openSync(log, "w");
  // In its own process group, so that Ctrl-C does not reach it directly. This script stops its
  // children in order.
  const process = spawn(join(programs, name), args, { env: setup.env, stdio: ["ignore", output, output], detached: true });
  closeSync(output);
  const child = { name, log, process, over: false };
  child.ended = new Promise((resolve) => {
    process.once("error", (error) => ((child.over = true), (child.error = error), resolve()));
    process.once("exit", () => ((child.over = true), resolve()));
  });
  children.push(child);
  return child;
}

/** Stops the service first, because it sends requests to the double. */
async function stop() {
  stopping = true;
  for (const child of [...children].reverse()) {
    if (child.over) continue;
    child.process.kill("SIGTERM");
    const timeout = setTimeout(() => child.process.kill("SIGKILL"), STOP_SECONDS * 1000);
    await child.ended;
    clearTimeout(timeout);
  }
}

async function until(what, seconds, isMet, child, describe = () => "") {
  const deadline = Date.now() + seconds * 1000;
  while (!(await isMet())) {
    if (child?.over) throw new UserError(`waited for ${what}, but ${child.name} ended: ${child.error?.message ?? "see below"}`);
    if (Date.now() > deadline) throw new UserError(`waited ${seconds} seconds for ${what}. ${describe()}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MILLISECONDS));
  }
}

function expect(passed, what, actual) {
  if (!passed) throw new UserError(`expected: ${what}; got: ${typeof actual === "object" ? JSON.stringify(actual) : actual}`);
}

function step(name, what) {
  console.log(`${name.padEnd(13)} ${what}`);
}

function printTails() {
  for (const child of children) {
    let text = "";
    try {
      text = readFileSync(child.log, "utf8");
    } catch {
      // The program has not written a log.
    }
    const tail = text.trimEnd().split("\n").slice(-10).join("\n");
    console.error(`\nThe end of ${relative(root, join(root, child.log))}:\n${tail}`);
  }
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.on(signal, async () => {
    if (stopping) return;
    await stop();
    process.exit(walking ? 1 : 0);
  });
}

try {
  await main();
  process.exit(0);
} catch (error) {
  // After a signal pending work fails, and the signal handler ends the process.
  if (!stopping) {
    console.error(error instanceof UserError ? `demo: ${error.message}` : error);
    await stop();
    if (children.length > 0) printTails();
    process.exit(1);
  }
}
