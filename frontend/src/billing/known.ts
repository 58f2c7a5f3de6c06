import type { Subscription } from "../api/generated";
import type { Trouble } from "../api/trouble";

/** What the page knows of the subscription. */
export interface Known {
  /** The last answer, which stays when a later question fails. */
  subscription: Subscription | undefined;
  /** Why the last question has no answer. */
  trouble: Trouble | undefined;
  /** How many questions in a row have none. */
  failures: number;
}

/**
 * So many may fail before somebody is troubled who has an answer to look at already. It takes some seconds, which is
 * what a network that comes and goes takes, and a service that is being replaced.
 */
const UNTOLD_FAILURES = 3;

/** After an answer. */
export function learned(subscription: Subscription): Known {
  return { subscription, trouble: undefined, failures: 0 };
}

/** After a question that failed. */
export function failed(before: Known | undefined, trouble: Trouble): Known {
  return {
    subscription: before?.subscription,
    trouble: trouble.after(before?.trouble),
    failures: (before?.failures ?? 0) + 1,
  };
}

/** The trouble that somebody has to know of. */
export function toldTrouble({ subscription, trouble, failures }: Known): Trouble | undefined {
  const isUntold = subscription !== undefined && failures <= UNTOLD_FAILURES && !trouble?.needsSignIn;
  return isUntold ? undefined : trouble;
}
