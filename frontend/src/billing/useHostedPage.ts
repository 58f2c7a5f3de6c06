import { useMutation } from "@tanstack/react-query";
import { useEffect, useRef } from "react";

import type { BillingService } from "../api/service";
import type { Trouble } from "../api/trouble";
import { useSecondsLeft } from "./useSecondsLeft";

/** When the browser has not left after so long, the user has stopped it, and may want to try again. */
const LEAVING_SECONDS = 20;

/** A page of Stripe's that the browser can be sent to. */
export type HostedPage = "checkout" | "portal" | "payment_method";

/** The way to Stripe's pages, one at a time. */
export interface HostedPages {
  /** Where the browser is being sent. */
  opening: HostedPage | undefined;
  /** Why the last try failed. */
  trouble: Trouble | null;
  /** Before so many seconds another try is of no use. */
  waitSeconds: number;
  open: (page: HostedPage) => void;
}

/** Asks for the page's address and sends the browser there. */
export function useHostedPage(service: BillingService, onOutdated: () => void): HostedPages {
  const isPressed = useRef(false);
  const { mutate, reset, variables, isPending, isSuccess, error } = useMutation<string, Trouble, HostedPage>({
    mutationFn: (page) => urlOf(service, page),
    onError: (trouble) => {
      isPressed.current = false;
      if (isOutdated(trouble)) onOutdated();
    },
  });
  const waitSeconds = useSecondsLeft(error?.retryAt);
  const needsSignIn = error?.needsSignIn ?? false;

  useEffect(() => {
    const release = () => {
      isPressed.current = false;
      reset();
    };
    // The way back from Stripe may bring this very page out of the browser's memory, as it was when it was left.
    const onPageShow = (event: PageTransitionEvent) => event.persisted && release();
    // Whoever was told to sign in did so in another tab, and comes back to it from there.
    const onVisibilityChange = () => needsSignIn && document.visibilityState === "visible" && reset();
    window.addEventListener("pageshow", onPageShow);
    document.addEventListener("visibilitychange", onVisibilityChange);
    const timer = isSuccess ? setTimeout(release, LEAVING_SECONDS * 1000) : undefined;
    return () => {
      window.removeEventListener("pageshow", onPageShow);
      document.removeEventListener("visibilitychange", onVisibilityChange);
      clearTimeout(timer);
    };
  }, [isSuccess, needsSignIn, reset]);

  return {
    opening: isPending || isSuccess ? variables : undefined,
    trouble: error,
    waitSeconds,
    open: (page) => {
      // The second click of a double click comes before the first is rendered.
      if (isPressed.current || waitSeconds > 0) return;
      isPressed.current = true;
      // Said here and not above, it does not happen to somebody who has turned to another page meanwhile.
      mutate(page, { onSuccess: (url) => window.location.assign(url) });
    },
  };
}

function urlOf(service: BillingService, page: HostedPage): Promise<string> {
  switch (page) {
    case "checkout":
      return service.checkoutUrl();
    case "portal":
      return service.portalUrl();
    case "payment_method":
      return service.portalUrl("payment_method_update");
  }
}

/** Whether the button should not have been there: something has changed since, in another tab or in the user's role. */
function isOutdated({ code }: Trouble): boolean {
  return ["already_subscribed", "no_customer", "no_subscription", "not_allowed"].includes(code);
}
