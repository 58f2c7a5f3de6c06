// A whole billing system on this machine: the service with its page, a Stripe double, and two tenants to try it with.
//
//     node scripts/demo.mjs                what `make run` does: starts everything, prints what to try, runs until Ctrl-C
//     node scripts/demo.mjs --walk         walks the whole circle by itself and exits 0 or 1: a smoke test
//     node scripts/demo.mjs --aside NAME   runs beside another one: on free ports, which .demo/NAME/system.json tells
//     node scripts/demo.mjs --app URL      sends people back to an app that runs elsewhere, such as `npm run dev`
//     node scripts/demo.mjs --no-build     (with any) runs the programs that are built already
//
// Node and its standard library only, so that it runs where nothing has been installed.

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

/** What `make page` makes. */
const BUILT_PAGE = "frontend/dist/demo";

const USAGE = "usage: node scripts/demo.mjs [--walk] [--aside NAME] [--app URL] [--no-build]";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");

/** Something that the reader can mend; told in one line, without a stack. */
class Trouble extends Error {}

let walking = false;

const children = [];
let stopping = false;

// ---------------------------------------------------------------------------------------------------------------------

async function main() {
  if (Number.parseInt(process.versions.node, 10) < 20) throw new Trouble(`Node 20 or newer is needed, this is ${process.version}`);
  const wish = readWish();
  walking = wish.walk;
  process.chdir(root);

  const place = await choosePlace(wish);
  const programs = build(wish);
  prepare(place);
  const users = mintUsers(programs, place);
  const sandbox = start("sandbox", programs, place, [
    "--listen", place.sandbox.address,
    "--webhook-url", `${place.service.url}/api/billing/webhook/`,
    "--webhook-secret", place.env.STRIPE_WEBHOOK_SECRET,
  ]);
  await until("the Stripe double to listen", START_SECONDS, () => accepts(place.sandbox), sandbox);
  const service = start("billhook", programs, place, ["serve"]);
  await until("the service to be ready", START_SECONDS, () => isReady(place), service);

  if (walking) {
    await walk(programs, place);
    await stop();
    return;
  }
  await checkOut(place, users.birch);
  if (wish.aside) tellSystem(place);
  await printWhatToTry(place);
  printHowToFollow(programs, place, "birch", await journeyOf(programs, place, "birch"));
  await Promise.race(children.map((child) => child.ended));
  if (!stopping) throw new Trouble(`${children.find((child) => child.over).name} has ended by itself`);
}

function readWish() {
  const options = {
    walk: { type: "boolean", default: false },
    aside: { type: "string" },
    app: { type: "string" },
    "no-build": { type: "boolean", default: false },
  };
  let wish;
  try {
    wish = parseArgs({ options }).values;
  } catch {
    throw new Trouble(USAGE);
  }
  if (wish.aside !== undefined && !/^[a-z0-9-]+$/.test(wish.aside)) throw new Trouble(`a NAME is of a-z, 0-9 and -; ${USAGE}`);
  // The walk runs aside, too, so that it can run beside a demo, or beside another checkout.
  return { ...wish, aside: wish.walk ? "walk" : wish.aside };
}

/** Where this run listens and keeps its files. */
async function choosePlace({ aside, app }) {
  const [sandboxPort, servicePort] = aside ? await freePorts(2) : [12111, 8080];
  const dir = aside ? `.demo/${aside}` : ".demo";
  const logs = aside ? `${dir}/logs` : "logs";
  const page = `${dir}/page`;
  const sandbox = listener(sandboxPort);
  const service = listener(servicePort);
  if (!aside) {
    await mustBeFree(sandbox, "the Stripe double");
    await mustBeFree(service, "the service");
  }

  // A real key, or settings of another deployment, may well be in the shell that this is started from.
  const inherited = Object.entries(process.env).filter(([name]) => !/^(STRIPE_|BILLHOOK_|SANDBOX_|DATABASE_URL$)/.test(name));
  const env = {
    ...Object.fromEntries(inherited),
    STRIPE_SECRET_KEY: "sk_test_sandbox",
    STRIPE_WEBHOOK_SECRET: "whsec_sandbox_for_the_demo_only",
    STRIPE_API_BASE: sandbox.url,
    DATABASE_URL: `sqlite://${dir}/billhook.db?mode=rwc`,
    BILLHOOK_LISTEN: service.address,
    // Nobody else is to be told before it stops.
    BILLHOOK_STOP_DELAY_SECONDS: "0",
    BILLHOOK_APP_URL: app ?? service.url,
    BILLHOOK_PLANS: "pro=pro_monthly,price_pro_yearly;team=team_monthly",
    BILLHOOK_JWT_SECRET: "for-the-demo-only-7c1e94d05ab86f23e1",
    BILLHOOK_LOG_DIR: logs,
    ...(existsSync(BUILT_PAGE) && { BILLHOOK_STATIC_DIR: page }),
  };
  return { sandbox, service, dir, logs, page, env };
}

/** Builds both programs and tells where they are. */
function build({ "no-build": isBuilt }) {
  if (!isBuilt) {
    console.log("Building (cargo build); the first time takes some minutes.");
    const built = spawnSync("cargo", ["build", "--workspace", "--bins"], { stdio: "inherit" });
    if (built.error) throw new Trouble(`cargo could not be run: ${built.error.message}`);
    if (built.signal || built.status === 130) process.exit(130);
    if (built.status !== 0) throw new Trouble("the build failed");
  }
  // Cargo knows best where it puts things: an environment variable or any of its configuration files may say.
  const told = spawnSync("cargo", ["metadata", "--format-version", "1", "--no-deps", "--offline"], { maxBuffer: 64 << 20 });
  if (told.status !== 0) throw new Trouble(`cargo metadata failed: ${told.stderr}`);
  return join(JSON.parse(told.stdout).target_directory, "debug");
}

/** The double forgets everything when it stops, so a database that remembers would contradict it. */
function prepare(place) {
  mkdirSync(place.dir, { recursive: true });
  for (const suffix of ["", "-wal", "-shm"]) rmSync(join(place.dir, `billhook.db${suffix}`), { force: true });
  if (place.logs !== "logs") rmSync(place.logs, { recursive: true, force: true });
  // A copy, since the tokens that are put beside it have no business in what is built.
  rmSync(place.page, { recursive: true, force: true });
  if (existsSync(BUILT_PAGE)) cpSync(BUILT_PAGE, place.page, { recursive: true });
}

/** A user of each tenant, in a file each, and in one beside the page for its demo to sign in with. */
function mintUsers(programs, place) {
  const acme = mint(programs, place, "acme", "ada-1");
  const birch = mint(programs, place, "birch", "bo-1");
  if (existsSync(place.page)) {
    // Whoever reaches this machine's loopback can read them. They open nothing but this demo.
    const users = [
      { tenant: "acme", about: "a new tenant", token: acme },
      { tenant: "birch", about: "has bought Pro", token: birch },
    ];
    writeFileSync(join(place.page, "demo-tokens.json"), JSON.stringify(users), { mode: 0o600 });
  }
  return { acme, birch };
}

/** Tells whoever started this where to find it. */
function tellSystem(place) {
  const system = { service: place.service.url, sandbox: place.sandbox.url, jwtSecret: place.env.BILLHOOK_JWT_SECRET };
  writeFileSync(join(place.dir, "system.json"), JSON.stringify(system), { mode: 0o600 });
}

/** Token, checkout, payment, webhook, plan, portal, cancellation: everything that the service is for, once around. */
async function walk(programs, place) {
  const token = mint(programs, place, "cedar", "cleo-1");
  step("token", "minted for tenant cedar");

  const before = await subscription(place, token);
  expect(before.plan === "free", "a new tenant's plan is free", before);
  step("subscription", "plan free");

  const session = await checkOut(place, token);
  step("checkout", `session ${session.session_id} made and paid`);
  step("webhook", "plan pro");

  const portal = await post(place, token, "create-portal-session", {});
  step("portal", "session made");
  await cancelInPortal(portal.url);
  step("cancel", "through the form of the portal's page");

  const after = await subscriptionOnce(place, token, "the cancellation to arrive", (s) => s.scheduled_cancel === true);
  expect(after.plan === "pro", "a cancelled subscription keeps its plan until the period ends", after);
  step("webhook", `scheduled_cancel true, plan pro until ${after.cancel_at ?? after.current_period_end}`);

  for (const [file, event] of [
    ["billing.log", "portal.create.success"],
    ["webhook_signatures.log", "signature.accepted"],
    ["subscription_state.log", "subscription.transition"],
  ]) {
    await until(`${event} in ${file}`, SETTLE_SECONDS, () => logged(join(place.logs, file)).some((line) => line.event === event));
    step("log", `${event} in ${file}`);
  }
  const journey = await journeyOf(programs, place, "cedar");
  for (const file of ["billing.log", "webhook_signatures.log", "subscription_state.log"]) {
    const lines = logged(join(place.logs, file)).filter((line) => line.journey_id === journey);
    expect(lines.length > 0, `${file} tells of the journey ${journey}`, lines);
  }
  step("journey", `${journey}, in all three files`);
  console.log("The circle is closed.");
  printHowToFollow(programs, place, "cedar", journey);
}

/** Buys the first plan as a customer would, and waits until the service knows. */
async function checkOut(place, token) {
  const session = await post(place, token, "create-checkout-session", {});
  const paid = await request(`${place.sandbox.url}/_sandbox/checkout/${session.session_id}/pay`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ card: "ok" }),
  });
  expect(paid.ok, "the double takes the payment", paid.text);
  await subscriptionOnce(place, token, "the paid plan to arrive by webhook", (s) => s.plan === "pro" && s.access === true);
  return session;
}

/** Finds the form that cancels and sends it as a browser would. */
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
  expect(sent.status < 400, "the portal takes the cancellation", `${sent.status} ${sent.text.slice(0, 500)}`);
}

function attribute(tag, name) {
  const found = new RegExp(`\\b${name}\\s*=\\s*(?:"([^"]*)"|'([^']*)'|([^\\s>]+))`, "i").exec(tag);
  return found?.[1] ?? found?.[2] ?? found?.[3];
}

async function printWhatToTry(place) {
  const api = `${place.service.url}/api/billing`;
  const page = `${place.service.url}/billing`;
  const hasPage = (await request(page, { headers: { Accept: "text/html" } })).ok;
  console.log(`
Billhook is up. acme is a new tenant; birch has paid for Pro already.
${hasPage ? `
The billing page, to buy, manage and cancel in a browser:

  ${page}
` : ""}
In another terminal, in this directory (or with ${place.dir}/birch.token):

  TOKEN=$(cat ${place.dir}/acme.token); API=${api}; JSON='Content-Type: application/json'

What is acme entitled to?
  curl -s $API/subscription/ -H "Authorization: Bearer $TOKEN"

Check out: open the url that this prints, press Pay, and ask again: plan pro.
  curl -s $API/create-checkout-session/ -H "Authorization: Bearer $TOKEN" -H "$JSON" -d '{}'

Into the portal: open the url, cancel, and ask again: scheduled_cancel true.
  curl -s $API/create-portal-session/ -H "Authorization: Bearer $TOKEN" -H "$JSON" -d '{}'

The API, to read and try     ${place.service.url}/docs
What happened                ${place.logs}/billing.log, webhook_signatures.log, subscription_state.log
What both programs print     ${place.dir}/billhook.log, ${place.dir}/sandbox.log

Stripe's pages send you back to ${place.env.BILLHOOK_APP_URL}${hasPage ? "" : ", where your own app would be"}. Ctrl-C stops everything.`);
}

/** One id leads from the click on Upgrade to all that followed. */
function printHowToFollow(programs, place, tenant, journey) {
  const database = `DATABASE_URL=${place.env.DATABASE_URL.split("?")[0]}`;
  const exported = place.env.OTEL_EXPORTER_OTLP_ENDPOINT ? "" : "  (start this with OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4317)";
  console.log(`
What followed from ${tenant}'s checkout:
  grep -h ${journey} ${place.logs}/*.log* | sort
  ${database} ${relative(root, join(programs, "billhook"))} tenant show ${tenant} --timeline
and in Jaeger${exported}:
  http://127.0.0.1:16686/trace/${journey}`);
}

// The service, as its users see it --------------------------------------------------------------------------------------

function mint(programs, place, tenant, user) {
  const minted = spawnSync(join(programs, "billhook"), ["token", "--tenant", tenant, "--user", user], { env: place.env });
  if (minted.status !== 0) throw new Trouble(`billhook token failed: ${minted.error?.message ?? minted.stderr}`);
  const token = minted.stdout.toString().trim();
  writeFileSync(join(place.dir, `${tenant}.token`), `${token}\n`, { mode: 0o600 });
  return token;
}

/** The id of the journey that the tenant's checkout began: its own once the session's event has come. */
async function journeyOf(programs, place, tenant) {
  let journey;
  await until(`${tenant}'s journey`, SETTLE_SECONDS, () => {
    const shown = spawnSync(join(programs, "billhook"), ["tenant", "show", tenant, "--json"], { env: place.env });
    if (shown.status !== 0) throw new Trouble(`billhook tenant show failed: ${shown.error?.message ?? shown.stderr}`);
    journey = JSON.parse(shown.stdout).journey_id;
    return /^[0-9a-f]{32}$/.test(journey);
  });
  return journey;
}

async function subscription(place, token) {
  const answer = await request(`${place.service.url}/api/billing/subscription/`, { headers: bearer(token) });
  expect(answer.status === 200, "the subscription can be read", `${answer.status} ${answer.text}`);
  return JSON.parse(answer.text);
}

async function subscriptionOnce(place, token, what, holds) {
  let last;
  const holdsNow = async () => holds((last = await subscription(place, token)));
  await until(what, SETTLE_SECONDS, holdsNow, undefined, () => JSON.stringify(last));
  return last;
}

async function post(place, token, call, body) {
  const answer = await request(`${place.service.url}/api/billing/${call}/`, {
    method: "POST",
    headers: { ...bearer(token), "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  expect(answer.status === 200, `${call} answers 200`, `${answer.status} ${answer.text}`);
  return JSON.parse(answer.text);
}

function bearer(token) {
  return { Authorization: `Bearer ${token}` };
}

async function isReady(place) {
  return (await request(`${place.service.url}/readyz`).catch(() => undefined))?.status === 200;
}

async function request(url, options = {}) {
  const answer = await fetch(url, { signal: AbortSignal.timeout(HTTP_SECONDS * 1000), ...options });
  return { ok: answer.ok, status: answer.status, text: await answer.text() };
}

/** The lines of a topic's file; one that is still being written counts next time. */
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

async function mustBeFree({ port, address }, whose) {
  try {
    const server = await listenOn(port);
    await new Promise((resolve) => server.close(resolve));
  } catch (error) {
    if (error.code === "EADDRINUSE") {
      throw new Trouble(`${address} is taken, and ${whose} needs it: stop what listens there (another demo?) and try again`);
    }
    throw new Trouble(`cannot listen on ${address}: ${error.message}`);
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

function start(name, programs, place, args) {
  const log = join(place.dir, `${name}.log`);
  const output = openSync(log, "w");
  // A group of its own, so that Ctrl-C reaches it through us: once, and in order.
  const process = spawn(join(programs, name), args, { env: place.env, stdio: ["ignore", output, output], detached: true });
  closeSync(output);
  const child = { name, log, process, over: false };
  child.ended = new Promise((resolve) => {
    process.once("error", (error) => ((child.over = true), (child.error = error), resolve()));
    process.once("exit", () => ((child.over = true), resolve()));
  });
  children.push(child);
  return child;
}

/** The service first, while the double that it talks to is still there. */
async function stop() {
  stopping = true;
  for (const child of [...children].reverse()) {
    if (child.over) continue;
    child.process.kill("SIGTERM");
    const impatience = setTimeout(() => child.process.kill("SIGKILL"), STOP_SECONDS * 1000);
    await child.ended;
    clearTimeout(impatience);
  }
}

async function until(what, seconds, holds, child, tell = () => "") {
  const deadline = Date.now() + seconds * 1000;
  while (!(await holds())) {
    if (child?.over) throw new Trouble(`waited for ${what}, but ${child.name} has ended: ${child.error?.message ?? "see below"}`);
    if (Date.now() > deadline) throw new Trouble(`waited ${seconds} seconds for ${what}, in vain. ${tell()}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MILLISECONDS));
  }
}

function expect(holds, what, seen) {
  if (!holds) throw new Trouble(`expected that ${what}; saw: ${typeof seen === "object" ? JSON.stringify(seen) : seen}`);
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
      // Then there is nothing to show.
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
  // While stopping, whatever was under way fails; the signal's own handler ends the process.
  if (!stopping) {
    console.error(error instanceof Trouble ? `demo: ${error.message}` : error);
    await stop();
    if (children.length > 0) printTails();
    process.exit(1);
  }
}
