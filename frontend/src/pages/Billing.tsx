import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { useId, useLayoutEffect, useMemo, useRef, useState } from "react";

import { type BillingService, billingService } from "../api/service";
import type { GetToken } from "../api/token.js";
import type { ApiError } from "../api/apiError";
import { useCheckoutReturn } from "../billing/useCheckoutReturn";
import { useHostedPage } from "../billing/useHostedPage";
import { useSecondsLeft } from "../billing/useSecondsLeft";
import { useSubscription } from "../billing/useSubscription";
import { ActionButton } from "../components/ActionButton";
import { LoadingCard } from "../components/LoadingCard";
import { Notice } from "../components/Notice";
import { PlanActions } from "../components/PlanActions";
import { PlanCard } from "../components/PlanCard";
import { ReturnNotice } from "../components/ReturnNotice";
import { ErrorNotice } from "../components/ErrorNotice";
import { activatingCopy, grantedPlan, planCopy } from "../copy/plan";

export interface BillingPageProps {
  /** The base URL of the service, such as `https://billing.example.com`. Default: the page's own origin. */
  apiBase?: string;
  /** The path of this page below `BILLHOOK_APP_URL`. Stripe's pages return to it. */
  path?: string;
  /** Returns the user's token. For another user, mount another page with a new `key`. */
  getToken: GetToken;
}

/** The billing page: shows the tenant's plan, and opens Stripe's checkout and portal. */
export function BillingPage({ apiBase = "", path = "/billing", getToken }: BillingPageProps) {
  // The ref keeps the service stable when the application passes a new function on each render.
  const latestGetToken = useRef(getToken);
  useLayoutEffect(() => {
    latestGetToken.current = getToken;
  });
  const { service, queries } = useMemo(
    () => ({
      // eslint-disable-next-line react-hooks/refs -- read when a request is sent
      service: billingService({ apiBase, path, getToken: (request) => latestGetToken.current(request) }),
      queries: newQueryClient(),
    }),
    [apiBase, path],
  );
  return (
    <QueryClientProvider client={queries}>
      <Billing service={service} />
    </QueryClientProvider>
  );
}

/** The page has its own client, so that its settings and the application's are independent. */
function newQueryClient(): QueryClient {
  // The stream and its polling replace refetches and retries. Without a network, requests fail at
  // once so that the page can show an error.
  const always = { networkMode: "always", retry: false } as const;
  return new QueryClient({
    defaultOptions: {
      queries: { ...always, staleTime: Infinity, refetchOnWindowFocus: false, refetchOnReconnect: false },
      mutations: always,
    },
  });
}

function Billing({ service }: { service: BillingService }) {
  const live = useSubscription(service);
  const checkoutReturn = useCheckoutReturn(service, live);
  const hosted = useHostedPage(service, () => void live.refetch());
  const headingId = useId();

  const { subscription } = live;
  const isActivating = checkoutReturn.state === "activating" || checkoutReturn.state === "slow";
  const copy = subscription && (isActivating ? activatingCopy : planCopy)(subscription);

  return (
    <section className="billhook" lang="en" dir="ltr" aria-labelledby={headingId}>
      <h1 id={headingId} tabIndex={-1}>
        Billing
      </h1>
      <div aria-live="polite">
        <ReturnNotice checkoutReturn={checkoutReturn} planName={subscription && grantedPlan(subscription)} />
        {copy?.notice && (
          <Notice tone={copy.badge.tone} title={copy.notice.title}>
            <p>{copy.notice.text}</p>
          </Notice>
        )}
      </div>
      {hosted.error ? (
        <ErrorNotice error={hosted.error} isAfterClick waitSeconds={hosted.waitSeconds} />
      ) : (
        live.error && <LoadErrorNotice error={live.error} refetch={live.refetch} />
      )}
      {copy ? (
        <PlanCard copy={copy}>
          {/* Without buttons the user cannot buy the plan again while it is being activated. */}
          {!isActivating && <PlanActions subscription={subscription} copy={copy} hosted={hosted} />}
        </PlanCard>
      ) : (
        !live.error && <LoadingCard />
      )}
    </section>
  );
}

/** The error of loading the subscription. The page retries by itself; the button retries at once. */
function LoadErrorNotice({ error, refetch }: { error: ApiError; refetch: () => Promise<void> }) {
  const [isTrying, setTrying] = useState(false);
  const waitSeconds = useSecondsLeft(error.retryAt);
  const tryAgain = () => {
    setTrying(true);
    void refetch().finally(() => setTrying(false));
  };
  return (
    <ErrorNotice error={error} waitSeconds={waitSeconds}>
      <ActionButton
        kind="plain"
        progress={isTrying ? "Trying…" : undefined}
        isBlocked={isTrying || waitSeconds > 0}
        onPress={tryAgain}
      >
        Try again
      </ActionButton>
    </ErrorNotice>
  );
}
