/** How the browser came to the page: by itself, or back from a checkout. */
export type Landing =
  | { kind: "none" }
  | { kind: "canceled" }
  /** With the checkout's id, where the address has one that could be Stripe's. */
  | { kind: "success"; sessionId: string | undefined };

/** Stripe's ids have some 70 characters. */
const SESSION_ID = /^cs_[A-Za-z0-9_]{1,200}$/;

/** Reads it from the page's address. */
export function readLanding(): Landing {
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

/** Takes it out of the page's address, and leaves what else stands there alone. */
export function forgetLanding(): void {
  const url = new URL(window.location.href);
  url.searchParams.delete("checkout");
  url.searchParams.delete("session_id");
  window.history.replaceState(window.history.state, "", url);
}
