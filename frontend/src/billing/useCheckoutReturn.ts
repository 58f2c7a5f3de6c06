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

/** What the page says about the checkout that the browser is back from. */
export type CheckoutReturn = "none" | "canceled" | "activating" | "slow" | "unknown_checkout" | "activated";

/** Follows the return from a checkout until what was paid for is there. */
export function useCheckoutReturn(service: BillingService, live: LiveSubscription): CheckoutReturn {
  const [landing] = useState(readLanding);
  const [isSlow, setSlow] = useState(false);
  const [isUnknown, setUnknown] = useState(false);
  const [isActivated, setActivated] = useState(false);
  const { subscription, tell } = live;

  // It stays activated, whatever becomes of the subscription later.
  if (!isActivated && subscription && hasArrived(subscription)) setActivated(true);
  const isWaiting = landing.kind === "success" && !isActivated && !isUnknown;
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
    if (!isWaiting || !sessionId) return;
    const stop = new AbortController();
    const askOnce = async () => tell(await service.refreshCheckout(sessionId, stop.signal));
    void askAgainAndAgain(askOnce, () => setUnknown(true), stop.signal);
    return () => stop.abort();
  }, [service, isWaiting, sessionId, tell]);

  return stateOf(landing, { isActivated, isUnknown, isSlow });
}

/** A subscription that waits for a slow payment has arrived, too: the page has words for it. */
function hasArrived(subscription: NonNullable<LiveSubscription["subscription"]>): boolean {
  return subscription.access || standingOf(subscription) === "awaiting_payment";
}

async function askAgainAndAgain(
  askOnce: () => Promise<void>,
  onUnknown: () => void,
  signal: AbortSignal,
): Promise<void> {
  const isOver = () => signal.aborted;
  for (const seconds of ASK_AFTER_SECONDS) {
    await pause(seconds, signal);
    if (isOver()) return;
    try {
      await askOnce();
    } catch (error) {
      if (isOver() || !(error instanceof Trouble)) return;
      if (error.code === "not_found") {
        onUnknown();
        return;
      }
      if (error.retryAt !== undefined) await pause((error.retryAt - Date.now()) / 1000, signal);
    }
  }
}

interface Progress {
  isActivated: boolean;
  isUnknown: boolean;
  isSlow: boolean;
}

function stateOf(landing: Landing, { isActivated, isUnknown, isSlow }: Progress): CheckoutReturn {
  if (landing.kind !== "success") return landing.kind;
  if (isActivated) return "activated";
  if (isUnknown) return "unknown_checkout";
  return isSlow ? "slow" : "activating";
}
