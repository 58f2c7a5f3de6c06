/** The redirect from a checkout, from the query of the page's URL. */
export type CheckoutRedirect =
  | { kind: "none" }
  | { kind: "canceled" }
  /** With the session id, if it has Stripe's format. */
  | { kind: "success"; sessionId: string | undefined };

/** Stripe's ids have about 70 characters. */
const SESSION_ID = /^cs_[A-Za-z0-9_]{1,200}$/;

export function readCheckoutRedirect(): CheckoutRedirect {
  const query = new URLSearchParams(window.location.search);
  switch (query.get("checkout")) {
    case "canceled":
      return { kind: "canceled" };
    case "success": {
      const sessionId = query.get("session_id") ?? "";
      return { kind: "success", sessionId: SESSION_ID.test(sessionId) ? sessionId : undefined };
    }
    default:
      return { kind: "none" };
  }
}

/** Removes the redirect's parameters from the page's URL, and no others. */
export function clearCheckoutRedirect(): void {
  const url = new URL(window.location.href);
  url.searchParams.delete("checkout");
  url.searchParams.delete("session_id");
  window.history.replaceState(window.history.state, "", url);
}
