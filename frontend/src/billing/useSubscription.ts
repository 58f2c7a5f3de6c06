import { type QueryClient, useQuery, useQueryClient } from "@tanstack/react-query";
import { useCallback, useEffect, useSyncExternalStore } from "react";

import { follow } from "../api/follow";
import type { Subscription } from "../api/generated";
import type { BillingService } from "../api/service";
import type { Trouble } from "../api/trouble";
import { failed, type Known, learned, toldTrouble } from "./known";

const QUERY_KEY = ["subscription"];

/** What the tenant is entitled to, kept up to date for as long as somebody looks. */
export interface LiveSubscription {
  /** The last answer, which stays when a later question fails. */
  subscription: Subscription | undefined;
  /** Why there is none, or none that is up to date. */
  trouble: Trouble | undefined;
  /** Asks now. */
  ask: () => Promise<void>;
  /** Takes over what another call has learned. */
  tell: (subscription: Subscription) => void;
}

/** The subscription query, and the stream that feeds it. */
export function useSubscription(service: BillingService): LiveSubscription {
  const queries = useQueryClient();
  const { data: known } = useQuery<Known>({
    queryKey: QUERY_KEY,
    queryFn: ({ signal }) => question(service, queries, signal),
  });
  const ask = useCallback(() => refetch(queries), [queries]);
  const tell = useCallback((subscription: Subscription) => void replace(queries, subscription), [queries]);
  const poll = useCallback(async () => {
    await refetch(queries);
    return queries.getQueryData<Known>(QUERY_KEY)?.trouble?.retryAt;
  }, [queries]);

  const isVisible = useSyncExternalStore(onVisibilityChange, isLookedAt);
  const needsSignIn = known?.trouble?.needsSignIn ?? false;
  // A page that nobody sees holds no connection: browsers allow few to one host, and phones have batteries. The stream
  // begins with the present state, so a page that is looked at again is right at once.
  const isFollowing = isVisible && !needsSignIn;
  useEffect(() => {
    if (!isFollowing) return;
    const stop = new AbortController();
    void follow(service, { onSubscription: tell, poll }, stop.signal);
    return () => stop.abort();
  }, [service, isFollowing, tell, poll]);

  // Whoever was told to sign in did so in another tab, and should find it done.
  useEffect(() => {
    if (!needsSignIn) return;
    return onVisibilityChange(() => isLookedAt() && void ask());
  }, [needsSignIn, ask]);

  return { subscription: known?.subscription, trouble: known && toldTrouble(known), ask, tell };
}

/**
 * Asks once. A failure is an answer, too, and not an error of the query's: the query would forget it as soon as it is
 * asked again, and with it the notice that somebody is reading and the button that was pressed there.
 */
async function question(service: BillingService, queries: QueryClient, signal: AbortSignal): Promise<Known> {
  try {
    return learned(await service.subscription(signal));
  } catch (trouble) {
    return failed(queries.getQueryData<Known>(QUERY_KEY), trouble as Trouble);
  }
}

/** A question that is on its way already will do. */
function refetch(queries: QueryClient): Promise<void> {
  return queries.refetchQueries({ queryKey: QUERY_KEY }, { cancelRefetch: false });
}

/** An answer that is still on its way may be older than what is told, and must not overwrite it. */
async function replace(queries: QueryClient, subscription: Subscription): Promise<void> {
  await queries.cancelQueries({ queryKey: QUERY_KEY });
  queries.setQueryData(QUERY_KEY, learned(subscription));
}

function isLookedAt(): boolean {
  return document.visibilityState !== "hidden";
}

function onVisibilityChange(changed: () => void): () => void {
  document.addEventListener("visibilitychange", changed);
  return () => document.removeEventListener("visibilitychange", changed);
}
