import {
  createBillingPortalSession,
  createCheckoutSession,
  getSubscription,
  type PortalFlow,
  refreshCheckoutSession,
  type Subscription,
} from "./generated";
import { createClient } from "./generated/client";
import { readStream, type StreamEnd } from "./stream";
import { isSubscription } from "./subscription";
import { authorizedFetch, type GetToken } from "./token";
import { newTrace } from "./trace";
import { ApiError } from "./apiError";

/** Longer than the service's own limit for a call to Stripe, which is ten seconds. */
const REQUEST_TIMEOUT_SECONDS = 20;

export interface ServiceOptions {
  apiBase: string;
  /** The path of the page, to which Stripe's pages return. */
  path: string;
  getToken: GetToken;
}

/** The calls of the page. They fail with an `ApiError`, except `stream`, which returns how it ended. */
export interface BillingService {
  getSubscription(signal: AbortSignal): Promise<Subscription>;
  /** Has the service ask Stripe about a checkout session, and returns the subscription afterwards. */
  refreshCheckout(sessionId: string, signal: AbortSignal): Promise<Subscription>;
  /** Creates a checkout session and returns its URL. */
  createCheckoutUrl(): Promise<string>;
  /** Creates a portal session and returns its URL. A flow opens a single action. */
  createPortalUrl(flow?: PortalFlow): Promise<string>;
  /** Reads one event stream until it ends. */
  stream(onSubscription: (subscription: Subscription) => void, signal: AbortSignal): Promise<StreamEnd>;
}

export function billingService({ apiBase, path, getToken }: ServiceOptions): BillingService {
  const client = createClient({ baseUrl: apiBase.replace(/\/+$/, ""), fetch: authorizedFetch(getToken) });

  return {
    getSubscription: (signal) =>
      send(parseSubscription, (headers) => getSubscription({ client, headers, signal: withTimeout(signal) })),

    refreshCheckout: (session_id, signal) =>
      send(parseSubscription, (headers) =>
        refreshCheckoutSession({ client, headers, path: { session_id }, signal: withTimeout(signal) }),
      ),

    createCheckoutUrl() {
      const body = {
        success_path: withQuery(path, "checkout=success&session_id={CHECKOUT_SESSION_ID}"),
        cancel_path: withQuery(path, "checkout=canceled"),
      };
      return send(parseUrl, (headers) => createCheckoutSession({ client, headers, body, signal: withTimeout() }));
    },

    createPortalUrl(flow) {
      const body = { return_path: path, ...(flow && { flow }) };
      return send(parseUrl, (headers) => createBillingPortalSession({ client, headers, body, signal: withTimeout() }));
    },

    stream: (onSubscription, signal) => readStream(client, onSubscription, signal),
  };
}

/** The path may already have a query, such as `?tab=billing`. */
function withQuery(path: string, query: string): string {
  return `${path}${path.includes("?") ? "&" : "?"}${query}`;
}

/** The result of a call by the generated client. */
interface ClientResult {
  data?: unknown;
  error?: unknown;
  response?: Response;
}

/** Sends a request in a new trace and parses the response. */
async function send<Parsed>(
  parse: (data: unknown) => Parsed | undefined,
  request: (headers: { traceparent: string }) => Promise<ClientResult>,
): Promise<Parsed> {
  const { id, traceparent } = newTrace();
  const { data, error, response } = await request({ traceparent }).catch((error: unknown) => {
    // The client throws only for a body that is not JSON or is incomplete.
    throw error instanceof SyntaxError ? ApiError.invalidResponse(id) : ApiError.unreachable(id);
  });
  if (error instanceof ApiError) throw error;
  if (!response) throw ApiError.unreachable(id);
  if (!response.ok) throw ApiError.fromResponse(response, error, id);
  const parsed = parse(data);
  if (parsed === undefined) throw ApiError.invalidResponse(id);
  return parsed;
}

function parseSubscription(data: unknown): Subscription | undefined {
  return isSubscription(data) ? data : undefined;
}

/** Accepts only HTTP URLs, because the browser navigates there. */
function parseUrl(data: unknown): string | undefined {
  const { url } = Object(data) as { url?: unknown };
  return typeof url === "string" && /^https?:\/\//.test(url) ? url : undefined;
}

function withTimeout(signal?: AbortSignal): AbortSignal {
  const timeout = AbortSignal.timeout(REQUEST_TIMEOUT_SECONDS * 1000);
  return signal ? AbortSignal.any([signal, timeout]) : timeout;
}
