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
import { Trouble } from "./trouble";

/** Longer than the service itself takes at worst: it gives up on Stripe after ten seconds. */
const ANSWER_SECONDS = 20;

/** Where the service is, who asks, and where Stripe's pages lead back to. */
export interface ServiceOptions {
  apiBase: string;
  path: string;
  getToken: GetToken;
}

/** What the page asks of the service. All of it fails with a `Trouble`. */
export interface BillingService {
  /** What the tenant is entitled to right now. */
  subscription(signal: AbortSignal): Promise<Subscription>;
  /** The same, after Stripe was asked about a checkout that the browser is back from. */
  refreshCheckout(sessionId: string, signal: AbortSignal): Promise<Subscription>;
  /** The address of the page to pay on. */
  checkoutUrl(): Promise<string>;
  /** The address of the portal, or of the one thing to do there. */
  portalUrl(flow?: PortalFlow): Promise<string>;
  /** Follows the subscription over one connection, and tells how that ended. */
  stream(onSubscription: (subscription: Subscription) => void, signal: AbortSignal): Promise<StreamEnd>;
}

/** The service behind the page, by the client that is generated from its contract. */
export function billingService({ apiBase, path, getToken }: ServiceOptions): BillingService {
  const client = createClient({ baseUrl: apiBase.replace(/\/+$/, ""), fetch: authorizedFetch(getToken) });

  return {
    subscription: (signal) =>
      answered(asSubscription, (headers) => getSubscription({ client, headers, signal: inTime(signal) })),

    refreshCheckout: (session_id, signal) =>
      answered(asSubscription, (headers) =>
        refreshCheckoutSession({ client, headers, path: { session_id }, signal: inTime(signal) }),
      ),

    checkoutUrl() {
      const body = {
        success_path: withQuery(path, "checkout=success&session_id={CHECKOUT_SESSION_ID}"),
        cancel_path: withQuery(path, "checkout=canceled"),
      };
      return answered(asUrl, (headers) => createCheckoutSession({ client, headers, body, signal: inTime() }));
    },

    portalUrl(flow) {
      const body = { return_path: path, ...(flow && { flow }) };
      return answered(asUrl, (headers) => createBillingPortalSession({ client, headers, body, signal: inTime() }));
    },

    stream: (onSubscription, signal) => readStream(client, onSubscription, signal),
  };
}

/** The path may have a query of its own, such as `?tab=billing`. */
function withQuery(path: string, query: string): string {
  return `${path}${path.includes("?") ? "&" : "?"}${query}`;
}

/** The generated client's answer, or the trouble that there was. */
interface Outcome {
  data?: unknown;
  error?: unknown;
  response?: Response;
}

/** Asks in a trace of its own, and reads the answer. */
async function answered<Answer>(
  read: (data: unknown) => Answer | undefined,
  ask: (headers: { traceparent: string }) => Promise<Outcome>,
): Promise<Answer> {
  const { id, traceparent } = newTrace();
  const { data, error, response } = await ask({ traceparent }).catch((error: unknown) => {
    // The client throws only at a body: one that is no JSON, or one that was cut off.
    throw error instanceof SyntaxError ? Trouble.unintelligible(id) : Trouble.unreachable(id);
  });
  if (error instanceof Trouble) throw error;
  if (!response) throw Trouble.unreachable(id);
  if (!response.ok) throw Trouble.answered(response, error, id);
  const answer = read(data);
  if (answer === undefined) throw Trouble.unintelligible(id);
  return answer;
}

function asSubscription(data: unknown): Subscription | undefined {
  return isSubscription(data) ? data : undefined;
}

/** The browser is sent there, so it has to be a page of the web and nothing else that an address can be. */
function asUrl(data: unknown): string | undefined {
  const { url } = Object(data) as { url?: unknown };
  return typeof url === "string" && /^https?:\/\//.test(url) ? url : undefined;
}

function inTime(signal?: AbortSignal): AbortSignal {
  const deadline = AbortSignal.timeout(ANSWER_SECONDS * 1000);
  return signal ? AbortSignal.any([signal, deadline]) : deadline;
}
