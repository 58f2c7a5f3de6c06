import { useMutation } from "@tanstack/react-query";
import { useEffect, useRef } from "react";

import type { BillingService } from "../api/service";
import type { ApiError } from "../api/apiError";
import { useSecondsLeft } from "./useSecondsLeft";

/** If the browser has not left after this time, the user has stopped it, and the buttons work again. */
const NAVIGATION_TIMEOUT_SECONDS = 20;

/** A page hosted by Stripe. `fix_payment` is the portal, or the page of an open invoice. */
export type HostedPage = "checkout" | "portal" | "fix_payment";

export interface HostedPageState {
  /** The page that is being opened. */
  opening: HostedPage | undefined;
  /** The error of the last attempt. */
  error: ApiError | null;
  /** Seconds before the next attempt is allowed. */
  waitSeconds: number;
  open: (page: HostedPage) => void;
}

/** Opens Stripe's pages, one at a time. `onOutdated` is called if the subscription shown here is out of date. */
export function useHostedPage(service: BillingService, onOutdated: () => void): HostedPageState {
  const isPressed = useRef(false);
  const { mutate, reset, variables, isPending, isSuccess, error } = useMutation<string, ApiError, HostedPage>({
    mutationFn: (page) => urlOf(service, page),
    onError: (error) => {
      isPressed.current = false;
      if (isOutdated(error)) onOutdated();
    },
  });
  const waitSeconds = useSecondsLeft(error?.retryAt);
  const isSignInOrAccessError = error?.isSignInOrAccessError ?? false;

  useEffect(() => {
    const release = () => {
      isPressed.current = false;
      reset();
    };
    // The back button may restore the page from the back/forward cache, with its buttons still
    // blocked.
    const onPageShow = (event: PageTransitionEvent) => event.persisted && release();
    // The user may have signed in in another tab.
    const onVisibilityChange = () => isSignInOrAccessError && document.visibilityState === "visible" && reset();
    window.addEventListener("pageshow", onPageShow);
    document.addEventListener("visibilitychange", onVisibilityChange);
    const timer = isSuccess ? setTimeout(release, NAVIGATION_TIMEOUT_SECONDS * 1000) : undefined;
    return () => {
      window.removeEventListener("pageshow", onPageShow);
      document.removeEventListener("visibilitychange", onVisibilityChange);
      clearTimeout(timer);
    };
  }, [isSuccess, isSignInOrAccessError, reset]);

  return {
    opening: isPending || isSuccess ? variables : undefined,
    error,
    waitSeconds,
    open: (page) => {
      // The second click of a double click comes before the first one is rendered.
      if (isPressed.current || waitSeconds > 0) return;
      isPressed.current = true;
      // As an option of `mutate`, it does not run after the component was unmounted.
      mutate(page, { onSuccess: (url) => window.location.assign(url) });
    },
  };
}

function urlOf(service: BillingService, page: HostedPage): Promise<string> {
  switch (page) {
    case "checkout":
      return service.createCheckoutUrl();
    case "portal":
      return service.createPortalUrl();
    case "fix_payment":
      return service.createPortalUrl("payment_method_update");
  }
}

/** Whether the error means that the subscription or the user's role has changed since it was loaded. */
function isOutdated({ code }: ApiError): boolean {
  return ["already_subscribed", "no_customer", "no_subscription", "not_allowed"].includes(code);
}
