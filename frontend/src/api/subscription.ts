import type { Subscription } from "./generated";

/** Checks the fields that the page needs: a request to a wrong URL may return a 200, too. */
export function isSubscription(data: unknown): data is Subscription {
  if (typeof data !== "object" || data === null) return false;
  const { plan, access, can_manage, may_manage } = data as Partial<Subscription>;
  return typeof plan === "string" && [access, can_manage, may_manage].every((flag) => typeof flag === "boolean");
}
