import type { Subscription } from "../api/generated";
import type { ApiError } from "../api/apiError";

export interface CachedSubscription {
  /** The last subscription that was received. It stays when a later request fails. */
  subscription: Subscription | undefined;
  /** The error of the last request. */
  error: ApiError | undefined;
  /** The number of consecutive failures. */
  failures: number;
}

/**
 * The number of failures that are not shown while there is a subscription to show. They take some
 * seconds, as long as a short network outage or a restart of the service.
 */
const MAX_HIDDEN_FAILURES = 3;

export function afterSuccess(subscription: Subscription): CachedSubscription {
  return { subscription, error: undefined, failures: 0 };
}

export function afterFailure(before: CachedSubscription | undefined, error: ApiError): CachedSubscription {
  return {
    subscription: before?.subscription,
    error: error.keepingTraceIdOf(before?.error),
    failures: (before?.failures ?? 0) + 1,
  };
}

/** The error to show to the user. */
export function visibleError({ subscription, error, failures }: CachedSubscription): ApiError | undefined {
  const isHidden = subscription !== undefined && failures <= MAX_HIDDEN_FAILURES && !error?.isSignInOrAccessError;
  return isHidden ? undefined : error;
}
