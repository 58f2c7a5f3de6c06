import { act, screen } from "@testing-library/react";
import { expect, it } from "vitest";

import { usePageTest } from "./pageTest";
import { CHECKOUT_URL, PORTAL_URL, problem } from "./fakeService";
import { ended, pro, withoutAccess } from "./subscriptions";

const page = usePageTest();

const button = (name: string) => screen.findByRole("button", { name });

it("upgrade opens checkout with return paths", async () => {
  page.open();
  await page.user.click(await button("Upgrade"));

  await expect.poll(() => page.assign.mock.calls).toEqual([[CHECKOUT_URL]]);
  expect(page.service.requests("createCheckoutSession")[0]?.body).toEqual({
    success_path: "/billing?checkout=success&session_id={CHECKOUT_SESSION_ID}",
    cancel_path: "/billing?checkout=canceled",
  });
});

it("manage button opens the portal", async () => {
  page.service.subscription = pro();
  page.open();
  await page.user.click(await button("Manage subscription"));

  await expect.poll(() => page.assign.mock.calls).toEqual([[PORTAL_URL]]);
  expect(page.service.requests("createBillingPortalSession")[0]?.body).toEqual({ return_path: "/billing" });
});

it("past_due button opens the payment method flow", async () => {
  page.service.subscription = pro({ status: "past_due" });
  page.open();
  await page.user.click(await button("Update payment method"));

  await expect.poll(() => page.assign.mock.calls).toEqual([[PORTAL_URL]]);
  expect(page.service.requests("createBillingPortalSession")[0]?.body).toMatchObject({ flow: "payment_method_update" });
});

it("unpaid button opens the payment method flow", async () => {
  page.service.subscription = withoutAccess("unpaid");
  page.open();
  await page.user.click(await button("Pay open invoice"));

  await expect.poll(() => page.assign.mock.calls).toEqual([[PORTAL_URL]]);
  expect(page.service.requests("createBillingPortalSession")[0]?.body).toMatchObject({ flow: "payment_method_update" });
});

it("manage button of ended subscription opens the portal", async () => {
  page.service.subscription = ended();
  page.open();
  await page.user.click(await button("Manage subscription"));

  await expect.poll(() => page.assign.mock.calls).toEqual([[PORTAL_URL]]);
  expect(page.service.requests("createBillingPortalSession")[0]?.body).toEqual({ return_path: "/billing" });
});

it("return paths use the page's path", async () => {
  page.open("", { path: "/settings/billing" });
  await page.user.click(await button("Upgrade"));

  await expect
    .poll(() => page.service.requests("createCheckoutSession")[0]?.body)
    .toMatchObject({
      cancel_path: "/settings/billing?checkout=canceled",
    });
});

it("return paths keep the query of the page's path", async () => {
  page.open("", { path: "/settings?tab=billing" });
  await page.user.click(await button("Upgrade"));

  await expect
    .poll(() => page.service.requests("createCheckoutSession")[0]?.body)
    .toEqual({
      success_path: "/settings?tab=billing&checkout=success&session_id={CHECKOUT_SESSION_ID}",
      cancel_path: "/settings?tab=billing&checkout=canceled",
    });
});

it("double click sends one request", async () => {
  const release = page.service.hold("createCheckoutSession");
  page.open();
  await page.user.dblClick(await button("Upgrade"));
  release();

  await expect.poll(() => page.assign.mock.calls).toHaveLength(1);
  expect(page.service.requests("createCheckoutSession")).toHaveLength(1);
});

it("two clicks before rendering send one request", async () => {
  page.open();
  const upgrade = await button("Upgrade");
  act(() => {
    upgrade.click();
    upgrade.click();
  });

  await expect.poll(() => page.assign.mock.calls).toHaveLength(1);
  expect(page.service.requests("createCheckoutSession")).toHaveLength(1);
});

it("clicked button is busy with focus and blocks the others", async () => {
  page.service.subscription = pro({ status: "past_due" });
  const release = page.service.hold("createBillingPortalSession");
  page.open();
  await page.user.click(await button("Update payment method"));

  const opening = await button("Opening…");
  expect(opening).toHaveAttribute("aria-busy", "true");
  expect(opening).toHaveFocus();
  const manage = await button("Manage subscription");
  expect(manage).toHaveAttribute("aria-disabled", "true");
  await page.user.click(manage);
  release();

  await expect.poll(() => page.assign.mock.calls).toHaveLength(1);
  expect(page.service.requests("createBillingPortalSession")).toHaveLength(1);
});

it("button stays blocked during navigation", async () => {
  page.open();
  await page.user.click(await button("Upgrade"));
  await expect.poll(() => page.assign.mock.calls).toHaveLength(1);

  await page.user.click(await button("Opening…"));
  expect(page.service.requests("createCheckoutSession")).toHaveLength(1);
});

it("response after unmounting does not navigate", async () => {
  const release = page.service.hold("createCheckoutSession");
  const { unmount } = page.open();
  await page.user.click(await button("Upgrade"));
  await expect.poll(() => page.service.requests("createCheckoutSession")).toHaveLength(1);
  unmount();
  release();

  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(page.assign).not.toHaveBeenCalled();
});

it("restore from back/forward cache unblocks the button", async () => {
  page.open();
  await page.user.click(await button("Upgrade"));
  await expect.poll(() => page.assign.mock.calls).toHaveLength(1);
  act(() => {
    window.dispatchEvent(Object.assign(new Event("pageshow"), { persisted: true }));
  });

  await page.user.click(await button("Upgrade"));
  await expect.poll(() => page.assign.mock.calls).toHaveLength(2);
});

it("failed click can be repeated", async () => {
  page.service.respondOnce("createCheckoutSession", problem(502, "stripe_unavailable"));
  page.open();
  await page.user.click(await button("Upgrade"));
  await screen.findByText("Our payment provider is not responding");

  await page.user.click(await button("Upgrade"));
  await expect.poll(() => page.assign.mock.calls).toEqual([[CHECKOUT_URL]]);
});
