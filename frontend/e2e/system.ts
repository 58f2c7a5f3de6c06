import { type ChildProcess, spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { readFile, rm } from "node:fs/promises";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

const START_SECONDS = 30;

/** What `scripts/demo.mjs` tells of the system that it has started. */
interface Told {
  service: string;
  sandbox: string;
  jwtSecret: string;
}

/** As much of Stripe's as is read here. */
interface Subscription {
  id: string;
  metadata: { tenant_id?: string };
}

/** What `make run` starts, for tests: the service, the Stripe double, and the page. */
export class System {
  readonly #demo: ChildProcess;
  readonly #told: Told;

  private constructor(demo: ChildProcess, told: Told) {
    this.#demo = demo;
    this.#told = told;
  }

  /** Where the page is: the service serves it. */
  get origin(): string {
    return this.#told.service;
  }

  /** Where the double's pages are. */
  get doubleOrigin(): string {
    return this.#told.sandbox;
  }

  static async start(name: string): Promise<System> {
    const file = `${ROOT}.demo/${name}/system.json`;
    await rm(file, { force: true });
    const script = ["scripts/demo.mjs", "--no-build", "--aside", name];
    const demo = spawn(process.execPath, script, { cwd: ROOT, stdio: ["ignore", "ignore", "inherit"] });
    return new System(demo, await toldBy(demo, file));
  }

  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.#demo.once("exit", resolve));
    this.#demo.kill("SIGTERM");
    await ended;
  }

  /** A token of one of the tenant's users, as the product's own sign-in would sign it. */
  token(tenant: string, goodForSeconds = 3600): string {
    const expires = Math.floor(Date.now() / 1000) + goodForSeconds;
    const parts = [
      { alg: "HS256", typ: "JWT" },
      { sub: `${tenant}-user`, tenant, exp: expires },
    ];
    const signed = parts.map((part) => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".");
    return `${signed}.${createHmac("sha256", this.#told.jwtSecret).update(signed).digest("base64url")}`;
  }

  /** Calls the service as the tenant, beside the page. */
  async call(tenant: string, operation: string, body: unknown = {}): Promise<{ status: number; body: unknown }> {
    const answer = await fetch(`${this.#told.service}/api/billing/${operation}/`, {
      method: "POST",
      headers: { Authorization: `Bearer ${this.token(tenant)}`, "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    return { status: answer.status, body: await answer.json() };
  }

  /** Buys Pro for the tenant, without a browser. */
  async buy(tenant: string): Promise<void> {
    const { body } = await this.call(tenant, "create-checkout-session");
    await this.double(`checkout/${(body as { session_id: string }).session_id}/pay`, { card: "ok" });
  }

  /** Something happens to the tenant's subscription at Stripe. */
  async changeSubscription(tenant: string, change: unknown): Promise<void> {
    const { data } = await this.stripe<{ data: Subscription[] }>("subscriptions?limit=100");
    const theirs = data.find(({ metadata }) => metadata.tenant_id === tenant);
    if (!theirs) throw new Error(`${tenant} has no subscription at Stripe`);
    await this.double(`subscriptions/${theirs.id}`, change);
  }

  /** Asks the Stripe double's API, as any integration does; with parameters it is a `POST`. */
  async stripe<T>(path: string, params?: Record<string, string>): Promise<T> {
    const answer = await fetch(`${this.#told.sandbox}/v1/${path}`, {
      method: params ? "POST" : "GET",
      headers: { Authorization: "Bearer sk_test_sandbox" },
      ...(params && { body: new URLSearchParams(params) }),
    });
    if (!answer.ok) throw new Error(`the double refused ${path}: ${await answer.text()}`);
    return (await answer.json()) as T;
  }

  /** Tells the Stripe double something. */
  async double(control: string, told: unknown): Promise<void> {
    await this.#double("POST", control, told);
  }

  /** Everything at the double is well again, and what it held back goes out. */
  async heal(): Promise<void> {
    await this.#double("DELETE", "faults");
  }

  async #double(method: string, control: string, told?: unknown): Promise<void> {
    const answer = await fetch(`${this.#told.sandbox}/_sandbox/${control}`, {
      method,
      ...(told !== undefined && { body: JSON.stringify(told) }),
    });
    if (!answer.ok) throw new Error(`the double refused ${control}: ${await answer.text()}`);
  }
}

async function toldBy(demo: ChildProcess, file: string): Promise<Told> {
  const deadline = Date.now() + START_SECONDS * 1000;
  while (Date.now() < deadline) {
    if (demo.exitCode !== null) throw new Error("scripts/demo.mjs has ended, see above");
    try {
      return JSON.parse(await readFile(file, "utf8")) as Told;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
  throw new Error(`no ${file} after ${START_SECONDS} s`);
}
