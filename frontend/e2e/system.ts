import { type ChildProcess, spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { readFile, rm } from "node:fs/promises";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

const START_TIMEOUT_SECONDS = 30;

/** The file that `scripts/demo.mjs` writes about the system that it has started. */
interface DemoSystem {
  service: string;
  sandbox: string;
  jwtSecret: string;
}

/** The fields of Stripe's subscription that are read here. */
interface Subscription {
  id: string;
  metadata: { tenant_id?: string };
}

/** The service, the Stripe double and the page, as `make run` starts them. */
export class System {
  readonly #demo: ChildProcess;
  readonly #demoSystem: DemoSystem;

  private constructor(demo: ChildProcess, demoSystem: DemoSystem) {
    this.#demo = demo;
    this.#demoSystem = demoSystem;
  }

  /** The origin of the service, which serves the page. */
  get origin(): string {
    return this.#demoSystem.service;
  }

  /** The origin of the double's pages. */
  get doubleOrigin(): string {
    return this.#demoSystem.sandbox;
  }

  static async start(name: string): Promise<System> {
    const file = `${ROOT}.demo/${name}/system.json`;
    await rm(file, { force: true });
    const script = ["scripts/demo.mjs", "--no-build", "--aside", name];
    const demo = spawn(process.execPath, script, { cwd: ROOT, stdio: ["ignore", "ignore", "inherit"] });
    return new System(demo, await readWhenWritten(demo, file));
  }

  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.#demo.once("exit", resolve));
    this.#demo.kill("SIGTERM");
    await ended;
  }

  /** A token of one of the tenant's users, signed as by the product's own sign-in. */
  token(tenant: string, validForSeconds = 3600): string {
    const expires = Math.floor(Date.now() / 1000) + validForSeconds;
    const parts = [
      { alg: "HS256", typ: "JWT" },
      { sub: `${tenant}-user`, tenant, exp: expires },
    ];
    const signed = parts.map((part) => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".");
    return `${signed}.${createHmac("sha256", this.#demoSystem.jwtSecret).update(signed).digest("base64url")}`;
  }

  /** Calls the service as the tenant, without the page. */
  async call(tenant: string, operation: string, body: unknown = {}): Promise<{ status: number; body: unknown }> {
    const response = await fetch(`${this.#demoSystem.service}/api/billing/${operation}/`, {
      method: "POST",
      headers: { Authorization: `Bearer ${this.token(tenant)}`, "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    return { status: response.status, body: await response.json() };
  }

  /** Buys Pro for the tenant, without a browser. */
  async buy(tenant: string): Promise<void> {
    const { body } = await this.call(tenant, "create-checkout-session");
    await this.control(`checkout/${(body as { session_id: string }).session_id}/pay`, { card: "ok" });
  }

  /** Changes the tenant's subscription at Stripe. */
  async changeSubscription(tenant: string, change: unknown): Promise<void> {
    const { data } = await this.stripe<{ data: Subscription[] }>("subscriptions?limit=100");
    const subscription = data.find(({ metadata }) => metadata.tenant_id === tenant);
    if (!subscription) throw new Error(`${tenant} has no subscription at Stripe`);
    await this.control(`subscriptions/${subscription.id}`, change);
  }

  /** Calls the Stripe API of the double: `POST` with parameters, otherwise `GET`. */
  async stripe<T>(path: string, params?: Record<string, string>): Promise<T> {
    const response = await fetch(`${this.#demoSystem.sandbox}/v1/${path}`, {
      method: params ? "POST" : "GET",
      headers: { Authorization: "Bearer sk_test_sandbox" },
      ...(params && { body: new URLSearchParams(params) }),
    });
    if (!response.ok) throw new Error(`the double rejected ${path}: ${await response.text()}`);
    return (await response.json()) as T;
  }

  /** Posts to the control API of the double. */
  async control(path: string, body: unknown): Promise<void> {
    await this.#control("POST", path, body);
  }

  /** Clears all faults of the double, which sends the webhooks that it held back. */
  async clearFaults(): Promise<void> {
    await this.#control("DELETE", "faults");
  }

  async #control(method: string, path: string, body?: unknown): Promise<void> {
    const response = await fetch(`${this.#demoSystem.sandbox}/_sandbox/${path}`, {
      method,
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    if (!response.ok) throw new Error(`the double rejected ${path}: ${await response.text()}`);
  }
}

async function readWhenWritten(demo: ChildProcess, file: string): Promise<DemoSystem> {
  const deadline = Date.now() + START_TIMEOUT_SECONDS * 1000;
  while (Date.now() < deadline) {
    if (demo.exitCode !== null) throw new Error("scripts/demo.mjs has exited; see its output above");
    try {
      return JSON.parse(await readFile(file, "utf8")) as DemoSystem;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
  throw new Error(`${file} was not written within ${START_TIMEOUT_SECONDS} s`);
}
