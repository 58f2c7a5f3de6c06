import { screen } from "@testing-library/react";
import { expect, it } from "vitest";

import type { Subscription } from "../src/api/generated";
import { useStage } from "./stage";
import { ended, ending, free, pro, trialing, withoutAccess } from "./subscriptions";

const stage = useStage();

interface Row {
  state: string;
  subscription: Subscription;
  name: string;
  badge: string;
  buttons: string[];
  says?: RegExp;
}

const MANAGE = "Manage subscription";
const UPDATE = "Update payment method";
const PAY = "Pay open invoice";

const rows: Row[] = [
  { state: "free", subscription: free(), name: "Free", badge: "Current plan", buttons: ["Upgrade"] },
  {
    state: "free after a checkout that was left",
    subscription: { ...free(), can_manage: true },
    name: "Free",
    badge: "Current plan",
    buttons: ["Upgrade"],
  },
  { state: "active", subscription: pro(), name: "Pro", badge: "Active", buttons: [MANAGE], says: /Renews on/ },
  {
    state: "trialing",
    subscription: trialing(),
    name: "Pro",
    badge: "Trial",
    buttons: [MANAGE],
    says: /Trial ends on/,
  },
  {
    state: "ending",
    subscription: ending(),
    name: "Pro",
    badge: "Canceled",
    buttons: [MANAGE],
    says: /does not renew.*Ends on/,
  },
  {
    state: "ending later than the period that is paid",
    subscription: ending({ cancel_at: "2027-03-23T09:00:00Z" }),
    name: "Pro",
    badge: "Canceled",
    buttons: [MANAGE],
    says: /Pro stays yours until it ends\. .*Renews on.*Ends on/,
  },
  {
    state: "past_due",
    subscription: pro({ status: "past_due" }),
    name: "Pro",
    badge: "Payment failed",
    buttons: [UPDATE, MANAGE],
    says: /Your last payment did not go through.*to keep Pro/,
  },
  {
    state: "past_due without access",
    subscription: withoutAccess("past_due"),
    name: "No active plan",
    badge: "Payment failed",
    buttons: [UPDATE, MANAGE],
    says: /is back as soon as/,
  },
  {
    state: "unpaid",
    subscription: withoutAccess("unpaid"),
    name: "No active plan",
    badge: "On hold",
    buttons: [PAY, MANAGE],
    says: /Pay the open invoice/,
  },
  {
    state: "incomplete",
    subscription: withoutAccess("incomplete"),
    name: "No active plan",
    badge: "Not paid yet",
    buttons: [MANAGE],
    says: /first payment is not finished/,
  },
  {
    state: "paused",
    subscription: withoutAccess("paused"),
    name: "No active plan",
    badge: "Paused",
    buttons: [MANAGE],
    says: /Add a payment method/,
  },
  {
    state: "awaiting a bank debit",
    subscription: withoutAccess("active"),
    name: "No active plan",
    badge: "Waiting for payment",
    buttons: [MANAGE],
    says: /some days/,
  },
  {
    state: "canceled",
    subscription: ended(),
    name: "Free",
    badge: "Ended",
    buttons: ["Upgrade", MANAGE],
    says: /pay what is still open/,
  },
  {
    state: "canceled with its customer",
    subscription: ended({ can_manage: false }),
    name: "Free",
    badge: "Ended",
    buttons: ["Upgrade"],
  },
  {
    state: "of a plan that the page does not know",
    subscription: pro({ plan: "team_yearly" }),
    name: "Team yearly",
    badge: "Active",
    buttons: [MANAGE],
  },
  {
    state: "of a price that is configured nowhere",
    subscription: pro({ plan: "free" }),
    name: "Subscription",
    badge: "Active",
    buttons: [MANAGE],
  },
  {
    state: "of a status that the page does not know",
    subscription: withoutAccess("on_holiday"),
    name: "No active plan",
    badge: "On holiday",
    buttons: [MANAGE],
  },
];

it.each(rows)("a subscription that is $state is said so, and offers $buttons", async (row) => {
  stage.service.subscription = row.subscription;
  const { container } = stage.open();

  expect(await screen.findByRole("region", { name: row.name })).toHaveTextContent(row.badge);
  expect(screen.getAllByRole("button").map((button) => button.textContent)).toEqual(row.buttons);
  if (row.says) expect(container).toHaveTextContent(row.says);
});

it("says that it loads until the answer is there", async () => {
  const release = stage.service.hold("getSubscription");
  const releaseStream = stage.service.hold("streamSubscription");
  stage.open();

  expect(screen.getByRole("status")).toHaveTextContent("Loading your plan");
  expect(screen.queryByRole("button")).not.toBeInTheDocument();
  release();
  releaseStream();
  expect(await screen.findByRole("region", { name: "Free" })).toBeVisible();
});

it("writes dates in the browser's language, and keeps the exact time at hand", async () => {
  stage.service.subscription = pro({ current_period_end: "2026-12-23T12:00:00Z" });
  const { container } = stage.open();
  await screen.findByText("Renews on");

  const date = container.querySelector("time");
  expect(date).toHaveAttribute("datetime", "2026-12-23T12:00:00Z");
  expect(date).toHaveAttribute("lang", new Intl.DateTimeFormat().resolvedOptions().locale);
  expect(date).toHaveTextContent("2026");
  expect(date?.title).toContain(date?.textContent);
});

it("stays English, and reads from left to right, in an application that does not", async () => {
  stage.open();
  const page = await screen.findByRole("region", { name: "Billing" });
  expect(page).toHaveAttribute("lang", "en");
  expect(page).toHaveAttribute("dir", "ltr");
});

it("tells how many only when they are several", async () => {
  stage.service.subscription = pro({ quantity: 5 });
  stage.open();

  expect(await screen.findByText("Quantity")).toBeVisible();
  stage.service.change(pro({ quantity: 1 }));
  await expect.poll(() => screen.queryByText("Quantity")).toBeNull();
});
