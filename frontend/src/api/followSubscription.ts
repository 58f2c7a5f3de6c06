import type { Subscription } from "./generated";
import { pause } from "./pause";
import type { BillingService } from "./service";

/** The first delay after a stream ended. It doubles each time. */
const MIN_RETRY_DELAY_SECONDS = 1;

/** Also the maximum age of the shown subscription while the page polls. */
const MAX_RETRY_DELAY_SECONDS = 30;

/** A stream that was open this long resets the backoff. */
const STABLE_STREAM_SECONDS = 30;

export interface SubscriptionHandlers {
  onSubscription: (subscription: Subscription) => void;
  /** Fetches the subscription once. Returns the time, in Unix milliseconds, before which the next request is useless. */
  poll: () => Promise<number | undefined>;
}

/**
 * Follows the subscription until `signal` aborts: by a stream if possible, and by polling with
 * backoff while streams are refused or break.
 */
export async function followSubscription(
  service: BillingService,
  handlers: SubscriptionHandlers,
  signal: AbortSignal,
): Promise<void> {
  const isStopped = () => signal.aborted;
  let retries = 0;
  let nextStreamAt = 0;

  while (!isStopped()) {
    const startedAt = Date.now();
    let retryAt: number | undefined;
    if (startedAt < nextStreamAt) {
      retryAt = await handlers.poll();
    } else {
      const end = await service.stream(handlers.onSubscription, signal);
      if (isStopped()) return;
      if (end.kind === "refused") nextStreamAt = end.error.retryAt ?? 0;
      if (end.kind !== "closed") retryAt = await handlers.poll();
      if (Date.now() - startedAt >= STABLE_STREAM_SECONDS * 1000) retries = 0;
    }
    const requiredSeconds = ((retryAt ?? 0) - Date.now()) / 1000;
    await pause(Math.max(retryDelaySeconds(retries), requiredSeconds), signal);
    retries += 1;
  }
}

/** With jitter, so that pages do not all reconnect at the same time after a restart of the service. */
function retryDelaySeconds(retries: number): number {
  const maximum = Math.min(MIN_RETRY_DELAY_SECONDS * 2 ** retries, MAX_RETRY_DELAY_SECONDS);
  return maximum * (0.5 + Math.random() / 2);
}
