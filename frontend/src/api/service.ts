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
    async subscription(signal) {
      return asSubscription(await answered(getSubscription({ client, signal: inTime(signal) })));
    },

    async refreshCheckout(sessionId, signal) {
      const asked = refreshCheckoutSession({ client, path: { session_id: sessionId }, signal: inTime(signal) });
      return asSubscription(await answered(asked));
    },

    async checkoutUrl() {
      const body = {
        success_path: `${path}?checkout=success&session_id={CHECKOUT_SESSION_ID}`,
        cancel_path: `${path}?checkout=canceled`,
      };
      return (await answered(createCheckoutSession({ client, body, signal: inTime() }))).url;
    },

    async portalUrl(flow) {
      const body = { return_path: path, ...(flow && { flow }) };
      return (await answered(createBillingPortalSession({ client, body, signal: inTime() }))).url;
    },

    stream: (onSubscription, signal) => readStream(client, onSubscription, signal),
  };
}

/** The generated client's answer, or the trouble that there was. */
interface Outcome<Data> {
  data?: Data;
  error?: unknown;
  response?: Response;
}

async function answered<Data>(asked: Promise<Outcome<Data>>): Promise<Data> {
  const { data, error, response } = await asked.catch(() => {
    // The client throws only at a body that it cannot read.
    throw Trouble.unintelligible();
  });
  if (error instanceof Trouble) throw error;
  if (!response) throw Trouble.unreachable();
  if (!response.ok) throw Trouble.answered(response, error);
  if (typeof data !== "object") throw Trouble.unintelligible();
  return data;
}

function asSubscription(data: unknown): Subscription {
  if (!isSubscription(data)) throw Trouble.unintelligible();
  return data;
}

function inTime(signal?: AbortSignal): AbortSignal {
  const deadline = AbortSignal.timeout(ANSWER_SECONDS * 1000);
  return signal ? AbortSignal.any([signal, deadline]) : deadline;
}
