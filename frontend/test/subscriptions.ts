import type { Subscription } from "../src/api/generated";

const RENEWAL = "2026-12-23T09:00:00Z";

/** A tenant without a subscription. */
export function free(): Subscription {
  return {
    tenant: "acme",
    plan: "free",
    access: false,
    status: null,
    price: null,
    quantity: null,
    current_period_end: null,
    trial_end: null,
    scheduled_cancel: false,
    cancel_at: null,
    can_manage: false,
    may_manage: true,
    as_of: null,
  };
}

/** An active Pro subscription with changes. */
export function pro(changes: Partial<Subscription> = {}): Subscription {
  return {
    ...free(),
    plan: "pro",
    access: true,
    status: "active",
    price: "price_pro_monthly",
    quantity: 1,
    current_period_end: RENEWAL,
    can_manage: true,
    as_of: "2026-11-23T09:00:00Z",
    ...changes,
  };
}

/** A subscription that grants no plan. */
export function withoutAccess(status: string, changes: Partial<Subscription> = {}): Subscription {
  return pro({ plan: "free", access: false, status, ...changes });
}

export const ending = (changes: Partial<Subscription> = {}) =>
  pro({ scheduled_cancel: true, cancel_at: RENEWAL, ...changes });
export const trialing = () => pro({ status: "trialing", trial_end: RENEWAL });
export const ended = (changes: Partial<Subscription> = {}) => withoutAccess("canceled", changes);
