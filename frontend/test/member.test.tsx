import { screen } from "@testing-library/react";
import { expect, it } from "vitest";

import { useStage } from "./stage";
import { problem } from "./standIn";
import { ended, free, pro } from "./subscriptions";

const stage = useStage();

it.each([
  { what: "free", subscription: free() },
  { what: "paid", subscription: pro() },
  { what: "unpaid", subscription: pro({ status: "past_due" }) },
  { what: "over", subscription: ended() },
])("a member who may not manage a plan that is $what sees it, and no button", async ({ subscription }) => {
  stage.service.subscription = { ...subscription, may_manage: false };
  stage.open();

  expect(await screen.findByText(/ask an owner of your organization/)).toBeVisible();
  expect(screen.queryByRole("button")).not.toBeInTheDocument();
});

it("a member who is made an owner has the buttons at once", async () => {
  stage.service.subscription = pro({ may_manage: false });
  stage.open();
  await screen.findByText(/ask an owner/);
  await expect.poll(() => stage.service.openStreams).toBe(1);
  stage.service.change(pro());

  expect(await screen.findByRole("button", { name: "Manage subscription" })).toBeVisible();
  expect(screen.queryByText(/ask an owner/)).not.toBeInTheDocument();
});

it("an owner who is one no more is told at the next click, and offered it no longer", async () => {
  stage.service.subscription = pro();
  stage.service.answerAlways("streamSubscription", problem(503, "unavailable", 60));
  stage.open();
  const manage = await screen.findByRole("button", { name: "Manage subscription" });
  stage.service.subscription = pro({ may_manage: false });
  stage.service.answerAlways("createBillingPortalSession", problem(403, "not_allowed"));
  await stage.user.click(manage);

  expect(await screen.findByText(/ask an owner/)).toBeVisible();
  expect(screen.queryByRole("button", { name: "Manage subscription" })).not.toBeInTheDocument();
  expect(stage.assign).not.toHaveBeenCalled();
});
