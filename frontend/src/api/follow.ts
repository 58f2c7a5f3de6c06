import type { Subscription } from "./generated";
import { pause } from "./pause";
import type { BillingService } from "./service";

/** The first pause after a stream ended; each that follows is twice as long. */
const FIRST_PAUSE_SECONDS = 1;

/** No pause is longer: what somebody looks at should not be older than this. */
const LONGEST_PAUSE_SECONDS = 30;

/** A stream that lasted so long was a good one, and what comes after it begins with short pauses again. */
const STEADY_SECONDS = 30;

/** What is done with what is learned. */
export interface Follower {
  /** The subscription as it is now. */
  onSubscription: (subscription: Subscription) => void;
  /** Asks for it the ordinary way, since there is no stream. Tells before when there is no use in asking again, if so. */
  poll: () => Promise<number | undefined>;
}

/**
 * Keeps the follower up to date until `signal` ends it: by a stream while there is one, and by polling with back-off
 * while streams are refused or break.
 */
export async function follow(service: BillingService, follower: Follower, signal: AbortSignal): Promise<void> {
  const isOver = () => signal.aborted;
  let pauses = 0;
  let streamsFrom = 0;

  while (!isOver()) {
    const began = Date.now();
    let quietUntil: number | undefined;
    if (began < streamsFrom) {
      quietUntil = await follower.poll();
    } else {
      const end = await service.stream(follower.onSubscription, signal);
      if (isOver()) return;
      if (end.kind === "refused") streamsFrom = end.trouble.retryAt ?? 0;
      if (end.kind !== "closed") quietUntil = await follower.poll();
      if (Date.now() - began >= STEADY_SECONDS * 1000) pauses = 0;
    }
    const quietSeconds = ((quietUntil ?? 0) - Date.now()) / 1000;
    await pause(Math.max(pauseSeconds(pauses), quietSeconds), signal);
    pauses += 1;
  }
}

/** With jitter, so that the pages which a restart cut off do not all come back in the same instant. */
function pauseSeconds(pauses: number): number {
  const longest = Math.min(FIRST_PAUSE_SECONDS * 2 ** pauses, LONGEST_PAUSE_SECONDS);
  return longest * (0.5 + Math.random() / 2);
}
