import { useEffect, useState } from "react";

import { pause } from "../api/pause";
import type { BillingService } from "../api/service";
import { ApiError } from "../api/apiError";
import { displayStatusOf } from "../copy/displayStatus";
import { type CheckoutRedirect, clearCheckoutRedirect, readCheckoutRedirect } from "./checkoutRedirect";
import type { LiveSubscription } from "./useSubscription";

/**
 * The delays before the requests that have the service ask Stripe. The webhook nearly always
 * arrives within five seconds. If it has not arrived after the last request, more requests would
 * not help.
 */
const REFRESH_DELAYS_SECONDS = [5, 10, 20, 40, 80];

/** The time after which the page says that activation takes longer than usual. */
const SLOW_SECONDS = 30;

/** Why there is nothing to wait for: the checkout is not the tenant's, or Stripe knows of no payment for it. */
type Failure = "unknown_checkout" | "unconfirmed";

export interface CheckoutReturn {
  state: "none" | "canceled" | "activating" | "slow" | "purchased" | Failure;
  sessionId: string | undefined;
}

/** After a redirect from the checkout, waits until the plan is active. */
export function useCheckoutReturn(service: BillingService, live: LiveSubscription): CheckoutReturn {
  const [redirect] = useState(readCheckoutRedirect);
  const [isSlow, setSlow] = useState(false);
  const [failure, setFailure] = useState<Failure>();
  const [isPurchased, setPurchased] = useState(false);
  const { subscription, update } = live;

  // Later changes of the subscription do not undo this.
  if (!isPurchased && subscription && hasArrived(subscription)) setPurchased(true);
  const isWaiting = redirect.kind === "success" && !isPurchased && failure === undefined;
  const sessionId = redirect.kind === "success" ? redirect.sessionId : undefined;

  // After a reload, neither an old notice nor a finished activation appears again.
  useEffect(() => {
    if (redirect.kind !== "none" && !isWaiting) clearCheckoutRedirect();
  }, [redirect, isWaiting]);

  useEffect(() => {
    if (!isWaiting) return;
    const timer = setTimeout(() => setSlow(true), SLOW_SECONDS * 1000);
    return () => clearTimeout(timer);
  }, [isWaiting]);

  useEffect(() => {
    if (!isWaiting) return;
    const stop = new AbortController();
    const refresh = async () =>
      update(await (sessionId ? service.refreshCheckout(sessionId, stop.signal) : service.getSubscription(stop.signal)));
    void refreshRepeatedly(refresh, stop.signal).then((result) => {
      if (!stop.signal.aborted) setFailure(result);
    });
    return () => stop.abort();
  }, [service, isWaiting, sessionId, update]);

  return { state: stateOf(redirect, isPurchased, failure, isSlow), sessionId };
}

function stateOf(
  redirect: CheckoutRedirect,
  isPurchased: boolean,
  failure: Failure | undefined,
  isSlow: boolean,
): CheckoutReturn["state"] {
  if (redirect.kind !== "success") return redirect.kind;
  if (isPurchased) return "purchased";
  return failure ?? (isSlow ? "slow" : "activating");
}

/** A subscription with a pending payment counts, too: the page has a status for it. */
function hasArrived(subscription: NonNullable<LiveSubscription["subscription"]>): boolean {
  return subscription.access || displayStatusOf(subscription) === "awaiting_payment";
}

/** Makes up to five requests. Returns `undefined` if `signal` aborts or the last request failed. */
async function refreshRepeatedly(refresh: () => Promise<void>, signal: AbortSignal): Promise<Failure | undefined> {
  const isStopped = () => signal.aborted;
  let failure: Failure | undefined;
  for (const seconds of REFRESH_DELAYS_SECONDS) {
    await pause(seconds, signal);
    if (isStopped()) return;
    try {
      await refresh();
      failure = "unconfirmed";
    } catch (error) {
      if (isStopped() || !(error instanceof ApiError)) return;
      if (error.code === "not_found") return "unknown_checkout";
      failure = undefined;
      if (error.retryAt !== undefined) await pause((error.retryAt - Date.now()) / 1000, signal);
    }
  }
  return failure;
}
