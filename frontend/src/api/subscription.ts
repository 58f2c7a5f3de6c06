import type { Subscription } from "./generated";

/** Whether the page can go by it: somebody else's answer to a wrong address may well be a 200. */
export function isSubscription(data: unknown): data is Subscription {
  if (typeof data !== "object" || data === null) return false;
  const { plan, access, can_manage, may_manage } = data as Partial<Subscription>;
  return typeof plan === "string" && [access, can_manage, may_manage].every((flag) => typeof flag === "boolean");
}
