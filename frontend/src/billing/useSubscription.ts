import { type QueryClient, useQuery, useQueryClient } from "@tanstack/react-query";
import { useCallback, useEffect, useSyncExternalStore } from "react";

import type { ApiError } from "../api/apiError";
import { followSubscription } from "../api/followSubscription";
import type { Subscription } from "../api/generated";
import type { BillingService } from "../api/service";
import { type CachedSubscription, afterFailure, afterSuccess, visibleError } from "./cachedSubscription";

const QUERY_KEY = ["subscription"];

/** The tenant's subscription, kept up to date while the page is visible. */
export interface LiveSubscription {
  /** The last subscription that was received. It stays when a later request fails. */
  subscription: Subscription | undefined;
  error: ApiError | undefined;
  refetch: () => Promise<void>;
  /** Sets the subscription that another call has returned. */
  update: (subscription: Subscription) => void;
}

export function useSubscription(service: BillingService): LiveSubscription {
  const queries = useQueryClient();
  const { data: cached } = useQuery<CachedSubscription>({
    queryKey: QUERY_KEY,
    queryFn: ({ signal }) => fetchSubscription(service, queries, signal),
  });
  // A request that is already in progress is enough.
  const refetch = useCallback(
    () => queries.refetchQueries({ queryKey: QUERY_KEY }, { cancelRefetch: false }),
    [queries],
  );
  const update = useCallback((subscription: Subscription) => void replace(queries, subscription), [queries]);
  const poll = useCallback(async () => {
    await refetch();
    return queries.getQueryData<CachedSubscription>(QUERY_KEY)?.error?.retryAt;
  }, [queries, refetch]);

  const isPageVisible = useSyncExternalStore(onVisibilityChange, isVisible);
  const isSignInOrAccessError = cached?.error?.isSignInOrAccessError ?? false;
  // A hidden page keeps no connection: browsers limit connections per host, and phones save
  // battery. A stream starts with the current state, so the page is up to date as soon as it is
  // visible again.
  const isFollowing = isPageVisible && !isSignInOrAccessError;
  useEffect(() => {
    if (!isFollowing) return;
    const stop = new AbortController();
    void followSubscription(service, { onSubscription: update, poll }, stop.signal);
    return () => stop.abort();
  }, [service, isFollowing, update, poll]);

  // The user may have signed in in another tab.
  useEffect(() => {
    if (!isSignInOrAccessError) return;
    return onVisibilityChange(() => isVisible() && void refetch());
  }, [isSignInOrAccessError, refetch]);

  return { subscription: cached?.subscription, error: cached && visibleError(cached), refetch, update };
}

/**
 * Returns failures as data and not as a query error: a query drops its error on the next fetch, and
 * the notice that the user reads would disappear with the button that was clicked there.
 */
async function fetchSubscription(
  service: BillingService,
  queries: QueryClient,
  signal: AbortSignal,
): Promise<CachedSubscription> {
  try {
    return afterSuccess(await service.getSubscription(signal));
  } catch (error) {
    return afterFailure(queries.getQueryData<CachedSubscription>(QUERY_KEY), error as ApiError);
  }
}

/** Cancels a request in progress, whose response may be older than `subscription`. */
async function replace(queries: QueryClient, subscription: Subscription): Promise<void> {
  await queries.cancelQueries({ queryKey: QUERY_KEY });
  queries.setQueryData(QUERY_KEY, afterSuccess(subscription));
}

function isVisible(): boolean {
  return document.visibilityState !== "hidden";
}

function onVisibilityChange(changed: () => void): () => void {
  document.addEventListener("visibilitychange", changed);
  return () => document.removeEventListener("visibilitychange", changed);
}
