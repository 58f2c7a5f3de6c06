import { useEffect, useState } from "react";

import { pause } from "../api/pause";
import type { BillingService } from "../api/service";
import { Trouble } from "../api/trouble";
import { standingOf } from "../words/standing";
import { forgetLanding, type Landing, readLanding } from "./landing";
import type { LiveSubscription } from "./useSubscription";

/**
 * The pauses before each time that the service is asked to look at Stripe. The webhook is nearly always there in five
 * seconds; where it is not there after the last, it is late for a reason that asking does not mend.
 */
const ASK_AFTER_SECONDS = [5, 10, 20, 40, 80];

/** After so long the page says that it takes longer than usual. */
const SLOW_SECONDS = 30;

/** What asking has shown, where there is nothing to wait for: it is not the tenant's, or Stripe has no payment for it. */
type Verdict = "unknown_checkout" | "unconfirmed";

/** What the page says about the checkout that the browser is back from. */
export interface CheckoutReturn {
  state: "none" | "canceled" | "activating" | "slow" | "activated" | Verdict;
  /** Which checkout it is, where the address has told. */
  sessionId: string | undefined;
}

/** Follows the return from a checkout until what was paid for is there. */
export function useCheckoutReturn(service: BillingService, live: LiveSubscription): CheckoutReturn {
  const [landing] = useState(readLanding);
  const [isSlow, setSlow] = useState(false);
  const [verdict, setVerdict] = useState<Verdict>();
  const [isActivated, setActivated] = useState(false);
  const { subscription, tell } = live;

  // It stays activated, whatever becomes of the subscription later.
  if (!isActivated && subscription && hasArrived(subscription)) setActivated(true);
  const isWaiting = landing.kind === "success" && !isActivated && verdict === undefined;
  const sessionId = landing.kind === "success" ? landing.sessionId : undefined;

  // A reload should find neither a notice that was read nor an activation that is over.
  useEffect(() => {
    if (landing.kind !== "none" && !isWaiting) forgetLanding();
  }, [landing, isWaiting]);

  useEffect(() => {
    if (!isWaiting) return;
    const timer = setTimeout(() => setSlow(true), SLOW_SECONDS * 1000);
    return () => clearTimeout(timer);
  }, [isWaiting]);

  useEffect(() => {
    if (!isWaiting) return;
    const stop = new AbortController();
    const askOnce = async () =>
      tell(await (sessionId ? service.refreshCheckout(sessionId, stop.signal) : service.subscription(stop.signal)));
    void askAgainAndAgain(askOnce, stop.signal).then((found) => {
      if (!stop.signal.aborted) setVerdict(found);
    });
    return () => stop.abort();
  }, [service, isWaiting, sessionId, tell]);

  return { state: stateOf(landing, isActivated, verdict, isSlow), sessionId };
}

function stateOf(
  landing: Landing,
  isActivated: boolean,
  verdict: Verdict | undefined,
  isSlow: boolean,
): CheckoutReturn["state"] {
  if (landing.kind !== "success") return landing.kind;
  if (isActivated) return "activated";
  return verdict ?? (isSlow ? "slow" : "activating");
}

/** A subscription that waits for a slow payment has arrived, too: the page has words for it. */
function hasArrived(subscription: NonNullable<LiveSubscription["subscription"]>): boolean {
  return subscription.access || standingOf(subscription) === "awaiting_payment";
}

/** Asks until it is over. Where it is not over in the end, it depends on whether Stripe could be asked at all. */
async function askAgainAndAgain(askOnce: () => Promise<void>, signal: AbortSignal): Promise<Verdict | undefined> {
  const isOver = () => signal.aborted;
  let verdict: Verdict | undefined;
  for (const seconds of ASK_AFTER_SECONDS) {
    await pause(seconds, signal);
    if (isOver()) return;
    try {
      await askOnce();
      verdict = "unconfirmed";
    } catch (error) {
      if (isOver() || !(error instanceof Trouble)) return;
      if (error.code === "not_found") return "unknown_checkout";
      verdict = undefined;
      if (error.retryAt !== undefined) await pause((error.retryAt - Date.now()) / 1000, signal);
    }
  }
  return verdict;
}
