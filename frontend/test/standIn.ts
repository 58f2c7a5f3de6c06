import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

import type { Code, Problem, Subscription } from "../src/api/generated";
import { free } from "./subscriptions";

export type Operation =
  | "getSubscription"
  | "streamSubscription"
  | "createCheckoutSession"
  | "createBillingPortalSession"
  | "refreshCheckoutSession";

const OPERATIONS: [RegExp, Operation][] = [
  [/^GET \/api\/billing\/subscription\/$/, "getSubscription"],
  [/^GET \/api\/billing\/subscription\/events\/$/, "streamSubscription"],
  [/^POST \/api\/billing\/create-checkout-session\/$/, "createCheckoutSession"],
  [/^POST \/api\/billing\/create-portal-session\/$/, "createBillingPortalSession"],
  [/^POST \/api\/billing\/checkout-sessions\/[^/]+\/refresh\/$/, "refreshCheckoutSession"],
];

export const CHECKOUT_URL = "https://pay.example/c/pay/cs_test_1";
export const PORTAL_URL = "https://pay.example/p/session/1";
export const TRACE_ID = "cf5f3932217a6780037336f2da8e06da";

/** A request as it came. */
export interface Received {
  operation: Operation;
  /** When, in milliseconds. */
  at: number;
  path: string;
  token: string | undefined;
  /** The id of the trace that it is a part of. */
  traceId: string | undefined;
  body: unknown;
}

/** An answer other than the usual one. */
export interface Answer {
  status: number;
  body: unknown;
  headers?: Record<string, string>;
}

/** Nothing is answered: the connection breaks once the request is there. */
export const BROKEN_OFF = "broken off";

/** One of the service's own problems. */
export function problem(status: number, code: Code, retryAfterSeconds?: number): Answer {
  const body: Problem = {
    type: `urn:billhook:problem:${code}`,
    title: "A title of the service's",
    status,
    detail: "A detail of the service's.",
    code,
    trace_id: TRACE_ID,
  };
  return { status, body, headers: retryAfterSeconds ? { "Retry-After": String(retryAfterSeconds) } : {} };
}

/** Speaks HTTP as the service does, and does as it is told. */
export class StandIn {
  /** What the tenant is entitled to. */
  subscription: Subscription = free();
  /** The one token that is taken. */
  token = "good-token";
  readonly received: Received[] = [];

  readonly #server: Server;
  readonly #streams = new Set<ServerResponse>();
  readonly #next = new Map<Operation, (Answer | typeof BROKEN_OFF)[]>();
  readonly #always = new Map<Operation, Answer | typeof BROKEN_OFF>();
  readonly #held = new Map<Operation, Promise<void>>();

  /** Where it is. */
  url = "";

  private constructor() {
    this.#server = createServer((request, response) => void this.#answer(request, response));
  }

  static async start(): Promise<StandIn> {
    const standIn = new StandIn();
    await new Promise<void>((resolve) => standIn.#server.listen(0, "127.0.0.1", resolve));
    standIn.url = `http://127.0.0.1:${(standIn.#server.address() as AddressInfo).port}`;
    return standIn;
  }

  get openStreams(): number {
    return this.#streams.size;
  }

  /** The requests for one operation. */
  of(operation: Operation): Received[] {
    return this.received.filter((received) => received.operation === operation);
  }

  /** Answers the next request for the operation so; those after it as usual. */
  answerOnce(operation: Operation, answer: Answer | typeof BROKEN_OFF): void {
    this.#next.set(operation, [...(this.#next.get(operation) ?? []), answer]);
  }

  /** Answers every request for the operation so. */
  answerAlways(operation: Operation, answer: Answer | typeof BROKEN_OFF): void {
    this.#always.set(operation, answer);
  }

  /** Everything is as usual again. */
  heal(): void {
    this.#next.clear();
    this.#always.clear();
  }

  /** Keeps requests for the operation waiting, until the returned function is called. */
  hold(operation: Operation): () => void {
    let release: () => void = () => undefined;
    this.#held.set(operation, new Promise((resolve) => (release = resolve)));
    return () => {
      this.#held.delete(operation);
      release();
    };
  }

  /** The subscription changes, and the open streams tell. */
  change(subscription: Subscription): void {
    this.subscription = subscription;
    for (const stream of this.#streams) stream.write(message(subscription));
  }

  /** Closes the streams as the service does. */
  closeStreams(reason: "token_expired" | "stopping" | "too_long"): void {
    for (const stream of this.#streams) stream.end(`event: end\ndata: ${JSON.stringify({ reason })}\n\n`);
  }

  /** Cuts the streams off, as a proxy might. */
  cutStreams(): void {
    for (const stream of this.#streams) stream.destroy();
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url ?? "";
    const operation = OPERATIONS.find(([pattern]) => pattern.test(`${request.method} ${path}`))?.[1];
    if (!operation) {
      send(response, problem(404, "not_found"));
      return;
    }
    const token = request.headers.authorization?.replace(/^Bearer /, "");
    const traceId = /^00-([0-9a-f]{32})-[0-9a-f]{16}-01$/.exec(String(request.headers.traceparent))?.[1];
    this.received.push({ operation, at: Date.now(), path, token, traceId, body: await bodyOf(request) });
    await this.#held.get(operation);

    if (token !== this.token) send(response, problem(401, "not_authenticated"));
    else {
      const told = this.#next.get(operation)?.shift() ?? this.#always.get(operation);
      if (told === BROKEN_OFF) response.destroy();
      else if (told) send(response, told);
      else if (operation === "streamSubscription") this.#open(response);
      else send(response, { status: 200, body: this.#usual(operation) });
    }
  }

  #usual(operation: Operation): unknown {
    switch (operation) {
      case "createCheckoutSession":
        return { url: CHECKOUT_URL, session_id: "cs_test_1" };
      case "createBillingPortalSession":
        return { url: PORTAL_URL };
      default:
        return this.subscription;
    }
  }

  #open(response: ServerResponse): void {
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    response.write(`retry: 3000\n\n${message(this.subscription)}`);
    this.#streams.add(response);
    response.on("close", () => this.#streams.delete(response));
  }
}

function message(subscription: Subscription): string {
  return `event: subscription\nid: "1"\ndata: ${JSON.stringify(subscription)}\n\n`;
}

function send(response: ServerResponse, { status, body, headers }: Answer): void {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const type = typeof body === "string" ? "text/html" : status < 400 ? "application/json" : "application/problem+json";
  response.writeHead(status, { "Content-Type": type, ...headers }).end(text);
}

async function bodyOf(request: IncomingMessage): Promise<unknown> {
  let text = "";
  for await (const chunk of request) text += String(chunk);
  return text === "" ? undefined : JSON.parse(text);
}
