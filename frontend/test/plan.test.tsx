import { screen } from "@testing-library/react";
import { expect, it } from "vitest";

import type { Subscription } from "../src/api/generated";
import { usePageTest } from "./pageTest";
import { ended, ending, free, pro, trialing, withoutAccess } from "./subscriptions";

const page = usePageTest();

interface Row {
  state: string;
  subscription: Subscription;
  name: string;
  badge: string;
  buttons: string[];
  text?: RegExp;
}

const MANAGE = "Manage subscription";
const UPDATE = "Update payment method";
const PAY = "Pay open invoice";

const rows: Row[] = [
  { state: "free", subscription: free(), name: "Free", badge: "Current plan", buttons: ["Upgrade"] },
  {
    state: "free after a canceled checkout",
    subscription: { ...free(), can_manage: true },
    name: "Free",
    badge: "Current plan",
    buttons: ["Upgrade"],
  },
  { state: "active", subscription: pro(), name: "Pro", badge: "Active", buttons: [MANAGE], text: /Renews on/ },
  {
    state: "trialing",
    subscription: trialing(),
    name: "Pro",
    badge: "Trial",
    buttons: [MANAGE],
    text: /Trial ends on/,
  },
  {
    state: "ending",
    subscription: ending(),
    name: "Pro",
    badge: "Canceled",
    buttons: [MANAGE],
    text: /does not renew.*Ends on/,
  },
  {
    state: "ending after the current period",
    subscription: ending({ cancel_at: "2027-03-23T09:00:00Z" }),
    name: "Pro",
    badge: "Canceled",
    buttons: [MANAGE],
    text: /You can use Pro until it ends\. Choose .*Renews on.*Ends on/,
  },
  {
    state: "past_due",
    subscription: pro({ status: "past_due" }),
    name: "Pro",
    badge: "Payment failed",
    buttons: [UPDATE, MANAGE],
    text: /Your last payment failed.*to keep Pro/,
  },
  {
    state: "past_due without access",
    subscription: withoutAccess("past_due"),
    name: "No active plan",
    badge: "Payment failed",
    buttons: [UPDATE, MANAGE],
    text: /is active again as soon as/,
  },
  {
    state: "unpaid",
    subscription: withoutAccess("unpaid"),
    name: "No active plan",
    badge: "On hold",
    buttons: [PAY, MANAGE],
    text: /Pay the open invoice/,
  },
  {
    state: "incomplete",
    subscription: withoutAccess("incomplete"),
    name: "No active plan",
    badge: "Not paid yet",
    buttons: [MANAGE],
    text: /first payment is incomplete/,
  },
  {
    state: "paused",
    subscription: withoutAccess("paused"),
    name: "No active plan",
    badge: "Paused",
    buttons: [MANAGE],
    text: /add a payment method/,
  },
  {
    state: "awaiting bank debit",
    subscription: withoutAccess("active"),
    name: "No active plan",
    badge: "Waiting for payment",
    buttons: [MANAGE],
    text: /several days/,
  },
  {
    state: "canceled",
    subscription: ended(),
    name: "Free",
    badge: "Ended",
    buttons: ["Upgrade", MANAGE],
    text: /see your invoices and pay open ones/,
  },
  {
    state: "canceled with deleted customer",
    subscription: ended({ can_manage: false }),
    name: "Free",
    badge: "Ended",
    buttons: ["Upgrade"],
  },
  {
    state: "with unknown plan",
    subscription: pro({ plan: "team_yearly" }),
    name: "Team yearly",
    badge: "Active",
    buttons: [MANAGE],
  },
  {
    state: "with unconfigured price",
    subscription: pro({ plan: "free" }),
    name: "Subscription",
    badge: "Active",
    buttons: [MANAGE],
  },
  {
    state: "with unknown status",
    subscription: withoutAccess("on_holiday"),
    name: "No active plan",
    badge: "On holiday",
    buttons: [MANAGE],
  },
];

it.each(rows)("subscription $state shows badge and $buttons", async (row) => {
  page.service.subscription = row.subscription;
  const { container } = page.open();

  expect(await screen.findByRole("region", { name: row.name })).toHaveTextContent(row.badge);
  expect(screen.getAllByRole("button").map((button) => button.textContent)).toEqual(row.buttons);
  if (row.text) expect(container).toHaveTextContent(row.text);
});

it("loading text is shown until the response arrives", async () => {
  const release = page.service.hold("getSubscription");
  const releaseStream = page.service.hold("streamSubscription");
  page.open();

  expect(screen.getByRole("status")).toHaveTextContent("Loading your plan");
  expect(screen.queryByRole("button")).not.toBeInTheDocument();
  release();
  releaseStream();
  expect(await screen.findByRole("region", { name: "Free" })).toBeVisible();
});

it("dates have the browser's language and an exact title", async () => {
  page.service.subscription = pro({ current_period_end: "2026-12-23T12:00:00Z" });
  const { container } = page.open();
  await screen.findByText("Renews on");

  const date = container.querySelector("time");
  expect(date).toHaveAttribute("datetime", "2026-12-23T12:00:00Z");
  expect(date).toHaveAttribute("lang", new Intl.DateTimeFormat().resolvedOptions().locale);
  expect(date).toHaveTextContent("2026");
  expect(date?.title).toContain(date?.textContent);
});

it("page sets its own language and direction", async () => {
  page.open();
  const region = await screen.findByRole("region", { name: "Billing" });
  expect(region).toHaveAttribute("lang", "en");
  expect(region).toHaveAttribute("dir", "ltr");
});

it("quantity is shown only above one", async () => {
  page.service.subscription = pro({ quantity: 5 });
  page.open();

  expect(await screen.findByText("Quantity")).toBeVisible();
  page.service.change(pro({ quantity: 1 }));
  await expect.poll(() => screen.queryByText("Quantity")).toBeNull();
});
