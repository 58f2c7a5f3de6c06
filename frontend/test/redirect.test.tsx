import { act, screen } from "@testing-library/react";
import { expect, it } from "vitest";

import { useStage } from "./stage";
import { CHECKOUT_URL, PORTAL_URL, problem } from "./standIn";
import { ended, pro, withoutAccess } from "./subscriptions";

const stage = useStage();

const button = (name: string) => screen.findByRole("button", { name });

it("sends a free tenant to the checkout, and tells where it leads back to", async () => {
  stage.open();
  await stage.user.click(await button("Upgrade"));

  await expect.poll(() => stage.assign.mock.calls).toEqual([[CHECKOUT_URL]]);
  expect(stage.service.of("createCheckoutSession")[0]?.body).toEqual({
    success_path: "/billing?checkout=success&session_id={CHECKOUT_SESSION_ID}",
    cancel_path: "/billing?checkout=canceled",
  });
});

it("sends a paying tenant to the portal", async () => {
  stage.service.subscription = pro();
  stage.open();
  await stage.user.click(await button("Manage subscription"));

  await expect.poll(() => stage.assign.mock.calls).toEqual([[PORTAL_URL]]);
  expect(stage.service.of("createBillingPortalSession")[0]?.body).toEqual({ return_path: "/billing" });
});

it("sends a tenant whose payment failed straight to the payment method", async () => {
  stage.service.subscription = pro({ status: "past_due" });
  stage.open();
  await stage.user.click(await button("Update payment method"));

  await expect.poll(() => stage.assign.mock.calls).toEqual([[PORTAL_URL]]);
  expect(stage.service.of("createBillingPortalSession")[0]?.body).toMatchObject({ flow: "payment_method_update" });
});

it("sends a tenant whose plan is on hold to the open invoice", async () => {
  stage.service.subscription = withoutAccess("unpaid");
  stage.open();
  await stage.user.click(await button("Pay open invoice"));

  await expect.poll(() => stage.assign.mock.calls).toEqual([[PORTAL_URL]]);
  expect(stage.service.of("createBillingPortalSession")[0]?.body).toMatchObject({ flow: "payment_method_update" });
});

it("sends a tenant whose subscription ended to the portal, where an invoice can be open", async () => {
  stage.service.subscription = ended();
  stage.open();
  await stage.user.click(await button("Manage subscription"));

  await expect.poll(() => stage.assign.mock.calls).toEqual([[PORTAL_URL]]);
  expect(stage.service.of("createBillingPortalSession")[0]?.body).toEqual({ return_path: "/billing" });
});

it("leads back to wherever the application has the page", async () => {
  stage.open("", { path: "/settings/billing" });
  await stage.user.click(await button("Upgrade"));

  await expect
    .poll(() => stage.service.of("createCheckoutSession")[0]?.body)
    .toMatchObject({
      cancel_path: "/settings/billing?checkout=canceled",
    });
});

it("leads back to a path that has a query of its own", async () => {
  stage.open("", { path: "/settings?tab=billing" });
  await stage.user.click(await button("Upgrade"));

  await expect
    .poll(() => stage.service.of("createCheckoutSession")[0]?.body)
    .toEqual({
      success_path: "/settings?tab=billing&checkout=success&session_id={CHECKOUT_SESSION_ID}",
      cancel_path: "/settings?tab=billing&checkout=canceled",
    });
});

it("takes a double click for one", async () => {
  const release = stage.service.hold("createCheckoutSession");
  stage.open();
  await stage.user.dblClick(await button("Upgrade"));
  release();

  await expect.poll(() => stage.assign.mock.calls).toHaveLength(1);
  expect(stage.service.of("createCheckoutSession")).toHaveLength(1);
});

it("takes two clicks of one instant, before anything is rendered, for one", async () => {
  stage.open();
  const upgrade = await button("Upgrade");
  act(() => {
    upgrade.click();
    upgrade.click();
  });

  await expect.poll(() => stage.assign.mock.calls).toHaveLength(1);
  expect(stage.service.of("createCheckoutSession")).toHaveLength(1);
});

it("does one thing at a time, shows which, and keeps the focus where it was", async () => {
  stage.service.subscription = pro({ status: "past_due" });
  const release = stage.service.hold("createBillingPortalSession");
  stage.open();
  await stage.user.click(await button("Update payment method"));

  const opening = await button("Opening…");
  expect(opening).toHaveAttribute("aria-busy", "true");
  expect(opening).toHaveFocus();
  const manage = await button("Manage subscription");
  expect(manage).toHaveAttribute("aria-disabled", "true");
  await stage.user.click(manage);
  release();

  await expect.poll(() => stage.assign.mock.calls).toHaveLength(1);
  expect(stage.service.of("createBillingPortalSession")).toHaveLength(1);
});

it("stays blocked while the browser is on its way", async () => {
  stage.open();
  await stage.user.click(await button("Upgrade"));
  await expect.poll(() => stage.assign.mock.calls).toHaveLength(1);

  await stage.user.click(await button("Opening…"));
  expect(stage.service.of("createCheckoutSession")).toHaveLength(1);
});

it("does not take somebody away who has turned to another page meanwhile", async () => {
  const release = stage.service.hold("createCheckoutSession");
  const { unmount } = stage.open();
  await stage.user.click(await button("Upgrade"));
  await expect.poll(() => stage.service.of("createCheckoutSession")).toHaveLength(1);
  unmount();
  release();

  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(stage.assign).not.toHaveBeenCalled();
});

it("is free again when the browser brings it back from its memory", async () => {
  stage.open();
  await stage.user.click(await button("Upgrade"));
  await expect.poll(() => stage.assign.mock.calls).toHaveLength(1);
  act(() => {
    window.dispatchEvent(Object.assign(new Event("pageshow"), { persisted: true }));
  });

  await stage.user.click(await button("Upgrade"));
  await expect.poll(() => stage.assign.mock.calls).toHaveLength(2);
});

it("can be tried again after a failure", async () => {
  stage.service.answerOnce("createCheckoutSession", problem(502, "stripe_unavailable"));
  stage.open();
  await stage.user.click(await button("Upgrade"));
  await screen.findByText("Our payment provider does not answer");

  await stage.user.click(await button("Upgrade"));
  await expect.poll(() => stage.assign.mock.calls).toEqual([[CHECKOUT_URL]]);
});
