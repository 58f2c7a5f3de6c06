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

const rows: Row[] = [
  { state: "free", subscription: free(), name: "Free", badge: "Current plan", buttons: ["Upgrade"] },
  { state: "active", subscription: pro(), name: "Pro", badge: "Active", buttons: [MANAGE], says: /Renews on/ },
  {
    state: "trialing",
    subscription: trialing(),
    name: "Pro",
    badge: "Trial",
    buttons: [MANAGE],
    says: /Trial ends on/,
  },
  { state: "ending", subscription: ending(), name: "Pro", badge: "Ends soon", buttons: [MANAGE], says: /Ends on/ },
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
    name: "Your subscription",
    badge: "Payment failed",
    buttons: [UPDATE, MANAGE],
    says: /is back as soon as/,
  },
  {
    state: "unpaid",
    subscription: withoutAccess("unpaid"),
    name: "Your subscription",
    badge: "On hold",
    buttons: [UPDATE, MANAGE],
    says: /pay the open invoice/,
  },
  {
    state: "incomplete",
    subscription: withoutAccess("incomplete"),
    name: "Your subscription",
    badge: "Not paid yet",
    buttons: [MANAGE],
    says: /first payment is not finished/,
  },
  {
    state: "paused",
    subscription: withoutAccess("paused"),
    name: "Your subscription",
    badge: "Paused",
    buttons: [MANAGE],
    says: /Add a payment method/,
  },
  {
    state: "awaiting a bank debit",
    subscription: withoutAccess("active"),
    name: "Your subscription",
    badge: "Waiting for payment",
    buttons: [MANAGE],
    says: /some days/,
  },
  { state: "canceled", subscription: ended(), name: "Free", badge: "Ended", buttons: ["Upgrade"] },
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
    name: "Your subscription",
    badge: "Active",
    buttons: [MANAGE],
  },
  {
    state: "of a status that the page does not know",
    subscription: withoutAccess("on_holiday"),
    name: "Your subscription",
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

it("writes dates for the reader, and keeps the exact time at hand", async () => {
  stage.service.subscription = pro({ current_period_end: "2026-12-23T12:00:00Z" });
  stage.open();

  const date = await screen.findByText("December 23, 2026");
  expect(date).toHaveAttribute("datetime", "2026-12-23T12:00:00Z");
  expect(date.title).toMatch(/Wednesday, December 23, 2026 at/);
});

it("tells how many only when they are several", async () => {
  stage.service.subscription = pro({ quantity: 5 });
  stage.open();

  expect(await screen.findByText("Quantity")).toBeVisible();
  stage.service.change(pro({ quantity: 1 }));
  await expect.poll(() => screen.queryByText("Quantity")).toBeNull();
});
