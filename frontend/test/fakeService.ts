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

export interface ReceivedRequest {
  operation: Operation;
  /** Unix milliseconds. */
  at: number;
  path: string;
  token: string | undefined;
  traceId: string | undefined;
  body: unknown;
}

export interface FakeResponse {
  status: number;
  body: unknown;
  headers?: Record<string, string>;
}

/** Closes the connection after the request, without a response. */
export const CONNECTION_RESET = "connection reset";

/** A problem response of the service. */
export function problem(status: number, code: Code, retryAfterSeconds?: number): FakeResponse {
  const body: Problem = {
    type: `urn:billhook:problem:${code}`,
    title: "Title of the service",
    status,
    detail: "Detail of the service.",
    code,
    trace_id: TRACE_ID,
  };
  return { status, body, headers: retryAfterSeconds ? { "Retry-After": String(retryAfterSeconds) } : {} };
}

/** An HTTP server with the service's API and configurable responses. */
export class FakeService {
  subscription: Subscription = free();
  /** The only token that is accepted. */
  token = "good-token";
  readonly received: ReceivedRequest[] = [];

  readonly #server: Server;
  readonly #streams = new Set<ServerResponse>();
  readonly #next = new Map<Operation, (FakeResponse | typeof CONNECTION_RESET)[]>();
  readonly #always = new Map<Operation, FakeResponse | typeof CONNECTION_RESET>();
  readonly #held = new Map<Operation, Promise<void>>();

  url = "";

  private constructor() {
    this.#server = createServer((request, response) => void this.#respond(request, response));
  }

  static async start(): Promise<FakeService> {
    const service = new FakeService();
    await new Promise<void>((resolve) => service.#server.listen(0, "127.0.0.1", resolve));
    service.url = `http://127.0.0.1:${(service.#server.address() as AddressInfo).port}`;
    return service;
  }

  get openStreams(): number {
    return this.#streams.size;
  }

  requests(operation: Operation): ReceivedRequest[] {
    return this.received.filter((received) => received.operation === operation);
  }

  /** Sets the response to the next request for the operation. */
  respondOnce(operation: Operation, response: FakeResponse | typeof CONNECTION_RESET): void {
    this.#next.set(operation, [...(this.#next.get(operation) ?? []), response]);
  }

  /** Sets the response to every request for the operation. */
  respondAlways(operation: Operation, response: FakeResponse | typeof CONNECTION_RESET): void {
    this.#always.set(operation, response);
  }

  /** Removes all configured responses. */
  reset(): void {
    this.#next.clear();
    this.#always.clear();
  }

  /** Delays requests for the operation until the returned function is called. */
  hold(operation: Operation): () => void {
    let release: () => void = () => undefined;
    this.#held.set(operation, new Promise((resolve) => (release = resolve)));
    return () => {
      this.#held.delete(operation);
      release();
    };
  }

  /** Changes the subscription and sends it to the open streams. */
  change(subscription: Subscription): void {
    this.subscription = subscription;
    for (const stream of this.#streams) stream.write(message(subscription));
  }

  /** Closes the streams with an `end` event, as the service does. */
  closeStreams(reason: "token_expired" | "stopping" | "too_long"): void {
    for (const stream of this.#streams) stream.end(`event: end\ndata: ${JSON.stringify({ reason })}\n\n`);
  }

  /** Breaks the streams, as a proxy might. */
  breakStreams(): void {
    for (const stream of this.#streams) stream.destroy();
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #respond(request: IncomingMessage, response: ServerResponse): Promise<void> {
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
      const configured = this.#next.get(operation)?.shift() ?? this.#always.get(operation);
      if (configured === CONNECTION_RESET) response.destroy();
      else if (configured) send(response, configured);
      else if (operation === "streamSubscription") this.#openStream(response);
      else send(response, { status: 200, body: this.#defaultBody(operation) });
    }
  }

  #defaultBody(operation: Operation): unknown {
    switch (operation) {
      case "createCheckoutSession":
        return { url: CHECKOUT_URL, session_id: "cs_test_1" };
      case "createBillingPortalSession":
        return { url: PORTAL_URL };
      default:
        return this.subscription;
    }
  }

  #openStream(response: ServerResponse): void {
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    response.write(`retry: 3000\n\n${message(this.subscription)}`);
    this.#streams.add(response);
    response.on("close", () => this.#streams.delete(response));
  }
}

function message(subscription: Subscription): string {
  return `event: subscription\nid: "1"\ndata: ${JSON.stringify(subscription)}\n\n`;
}

function send(response: ServerResponse, { status, body, headers }: FakeResponse): void {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const type = typeof body === "string" ? "text/html" : status < 400 ? "application/json" : "application/problem+json";
  response.writeHead(status, { "Content-Type": type, ...headers }).end(text);
}

async function bodyOf(request: IncomingMessage): Promise<unknown> {
  let text = "";
  for await (const chunk of request) text += String(chunk);
  return text === "" ? undefined : JSON.parse(text);
}
