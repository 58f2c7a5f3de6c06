import { type QueryClient, useQuery, useQueryClient } from "@tanstack/react-query";
import { useCallback, useEffect, useSyncExternalStore } from "react";

import { follow } from "../api/follow";
import type { Subscription } from "../api/generated";
import type { BillingService } from "../api/service";
import type { Trouble } from "../api/trouble";

const QUERY_KEY = ["subscription"];

/** What the tenant is entitled to, kept up to date for as long as somebody looks. */
export interface LiveSubscription {
  /** The last answer, which stays when a later question fails. */
  subscription: Subscription | undefined;
  /** Why the last question has no answer. */
  trouble: Trouble | null;
  /** Whether a question is on its way. */
  asking: boolean;
  /** Asks now. */
  ask: () => Promise<void>;
  /** Takes over what another call has learned. */
  tell: (subscription: Subscription) => void;
}

/** The subscription query, and the stream that feeds it. */
export function useSubscription(service: BillingService): LiveSubscription {
  const queries = useQueryClient();
  const { data, error, isFetching } = useQuery<Subscription, Trouble>({
    queryKey: QUERY_KEY,
    queryFn: ({ signal }) => service.subscription(signal),
  });
  const ask = useCallback(() => refetch(queries), [queries]);
  const tell = useCallback((subscription: Subscription) => void replace(queries, subscription), [queries]);

  // A page that nobody sees holds no connection: browsers allow few to one host, and phones have batteries. The stream
  // begins with the present state, so a page that is looked at again is right at once.
  const isVisible = useSyncExternalStore(onVisibilityChange, () => document.visibilityState !== "hidden");
  const isFollowing = isVisible && !error?.needsSignIn;
  useEffect(() => {
    if (!isFollowing) return;
    const stop = new AbortController();
    void follow(service, { onSubscription: tell, poll: ask }, stop.signal);
    return () => stop.abort();
  }, [service, isFollowing, tell, ask]);

  return { subscription: data, trouble: error, asking: isFetching, ask, tell };
}

/** A question that is on its way already will do. */
function refetch(queries: QueryClient): Promise<void> {
  return queries.refetchQueries({ queryKey: QUERY_KEY }, { cancelRefetch: false });
}

/** An answer that is still on its way may be older than what is told, and must not overwrite it. */
async function replace(queries: QueryClient, subscription: Subscription): Promise<void> {
  await queries.cancelQueries({ queryKey: QUERY_KEY });
  queries.setQueryData(QUERY_KEY, subscription);
}

function onVisibilityChange(changed: () => void): () => void {
  document.addEventListener("visibilitychange", changed);
  return () => document.removeEventListener("visibilitychange", changed);
}
