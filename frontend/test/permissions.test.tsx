import { screen } from "@testing-library/react";
import { expect, it } from "vitest";

import { usePageTest } from "./pageTest";
import { problem } from "./fakeService";
import { ended, free, pro } from "./subscriptions";

const page = usePageTest();

it.each([
  { state: "free", subscription: free() },
  { state: "active", subscription: pro() },
  { state: "past due", subscription: pro({ status: "past_due" }) },
  { state: "ended", subscription: ended() },
])("member without permission sees $state plan without buttons", async ({ subscription }) => {
  page.service.subscription = { ...subscription, may_manage: false };
  page.open();

  expect(await screen.findByText(/Only administrators of your organization/)).toBeVisible();
  expect(screen.queryByRole("button")).not.toBeInTheDocument();
});

it("member who becomes owner sees buttons at once", async () => {
  page.service.subscription = pro({ may_manage: false });
  page.open();
  await screen.findByText(/Only administrators/);
  await expect.poll(() => page.service.openStreams).toBe(1);
  page.service.change(pro());

  expect(await screen.findByRole("button", { name: "Manage subscription" })).toBeVisible();
  expect(screen.queryByText(/Only administrators/)).not.toBeInTheDocument();
});

it("owner who loses permission sees hint after next click", async () => {
  page.service.subscription = pro();
  page.service.respondAlways("streamSubscription", problem(503, "unavailable", 60));
  page.open();
  const manage = await screen.findByRole("button", { name: "Manage subscription" });
  page.service.subscription = pro({ may_manage: false });
  page.service.respondAlways("createBillingPortalSession", problem(403, "not_allowed"));
  await page.user.click(manage);

  expect(await screen.findByText(/Only administrators/)).toBeVisible();
  expect(screen.queryByRole("button", { name: "Manage subscription" })).not.toBeInTheDocument();
  expect(page.assign).not.toHaveBeenCalled();
});
