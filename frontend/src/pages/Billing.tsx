import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { useId, useLayoutEffect, useMemo, useRef, useState } from "react";

import { type BillingService, billingService } from "../api/service";
import type { GetToken } from "../api/token.js";
import type { Trouble } from "../api/trouble";
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
import { TroubleNotice } from "../components/TroubleNotice";
import { activatingWords, grantedPlan, planWords } from "../words/plan";

/** What the page needs to know of the application that it is a part of. */
export interface BillingPageProps {
  /** Where the service is, such as `https://billing.example.com`. Default: where the page itself comes from. */
  apiBase?: string;
  /** Where this page is: a path of the application, below `BILLHOOK_APP_URL`. Stripe's pages lead back to it. */
  path?: string;
  /** Gives the user's token. For another user, mount another page: give it a `key`. */
  getToken: GetToken;
}

/** The billing page: the tenant's plan, the way to buy one and the way to manage it. */
export function BillingPage({ apiBase = "", path = "/billing", getToken }: BillingPageProps) {
  // Most applications write the function in place, so that it is another one each time.
  const latestGetToken = useRef(getToken);
  useLayoutEffect(() => {
    latestGetToken.current = getToken;
  });
  const { service, queries } = useMemo(
    () => ({
      // eslint-disable-next-line react-hooks/refs -- it is read when a request is made, not while this is rendered
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

/** A client of our own, so that the application's settings are not ours, and ours not the application's. */
function newQueryClient(): QueryClient {
  // What is followed need not be asked again for its age, and following is what tries again. Without a network a
  // question should fail and say so, not wait in silence.
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
  const hosted = useHostedPage(service, () => void live.ask());
  const headingId = useId();

  const { subscription } = live;
  const isActivating = checkoutReturn.state === "activating" || checkoutReturn.state === "slow";
  const words = subscription && (isActivating ? activatingWords : planWords)(subscription);

  return (
    <section className="billhook" lang="en" dir="ltr" aria-labelledby={headingId}>
      <h1 id={headingId} tabIndex={-1}>
        Billing
      </h1>
      <div aria-live="polite">
        <ReturnNotice checkoutReturn={checkoutReturn} planName={subscription && grantedPlan(subscription)} />
        {words?.notice && (
          <Notice tone={words.badge.tone} title={words.notice.title}>
            <p>{words.notice.text}</p>
          </Notice>
        )}
      </div>
      {hosted.trouble ? (
        <TroubleNotice trouble={hosted.trouble} isOfClick waitSeconds={hosted.waitSeconds} />
      ) : (
        live.trouble && <LoadTrouble ask={live.ask} trouble={live.trouble} />
      )}
      {words ? (
        <PlanCard words={words}>
          {/* What was bought could be bought twice while it is not there yet. */}
          {!isActivating && (
            <PlanActions subscription={subscription} words={words} hosted={hosted} />
          )}
        </PlanCard>
      ) : (
        !live.trouble && <LoadingCard />
      )}
    </section>
  );
}

/** Why there is no answer, or none that is up to date. It goes away by itself; who does not want to wait may ask at once. */
function LoadTrouble({ ask, trouble }: { ask: () => Promise<void>; trouble: Trouble }) {
  const [isTrying, setTrying] = useState(false);
  const waitSeconds = useSecondsLeft(trouble.retryAt);
  const tryAgain = () => {
    setTrying(true);
    void ask().finally(() => setTrying(false));
  };
  return (
    <TroubleNotice trouble={trouble} waitSeconds={waitSeconds}>
      <ActionButton
        kind="plain"
        progress={isTrying ? "Trying…" : undefined}
        isBlocked={isTrying || waitSeconds > 0}
        onPress={tryAgain}
      >
        Try again
      </ActionButton>
    </TroubleNotice>
  );
}
