import { screen } from "@testing-library/react";
import { expect, it } from "vitest";

import { usePageTest } from "./pageTest";
import { problem } from "./fakeService";
import { ended, ending, pro, withoutAccess } from "./subscriptions";
import { advance, advanceUntil, useFastTime } from "./time";

const page = usePageTest();

const SUCCESS = "?checkout=success&session_id=cs_test_1";

const refreshes = () => page.service.requests("refreshCheckoutSession");

it("webhook activates plan without further requests", async () => {
  page.open(SUCCESS);
  await screen.findByText("Activating your plan…");
  await expect.poll(() => page.service.openStreams).toBe(1);
  expect(screen.queryByRole("button")).not.toBeInTheDocument();
  page.service.change(pro());

  expect(await screen.findByText("Welcome to Pro")).toBeVisible();
  expect(screen.getByRole("button", { name: "Manage subscription" })).toBeVisible();
  expect(page.service.requests("getSubscription").length).toBeLessThanOrEqual(1);
  expect(refreshes()).toHaveLength(0);
});

it("welcome stays after later change and redirect is cleared", async () => {
  page.service.subscription = pro();
  page.open(`${SUCCESS}&tab=plan`);
  await screen.findByText("Welcome to Pro");
  expect(window.location.search).toBe("?tab=plan");

  await expect.poll(() => page.service.openStreams).toBe(1);
  page.service.change(ending());
  await screen.findByText("Canceled");
  expect(screen.getByText("Welcome to Pro")).toBeVisible();
});

it("redirect stays in the URL during activation", async () => {
  page.open(SUCCESS);
  await screen.findByText("Activating your plan…");
  expect(window.location.search).toBe(SUCCESS);
});

it("polling activates plan while streams are refused", async () => {
  page.service.respondAlways("streamSubscription", problem(503, "unavailable", 60));
  page.open(SUCCESS);
  await screen.findByText("Activating your plan…");
  page.service.subscription = pro();

  expect(await screen.findByText("Welcome to Pro")).toBeVisible();
  expect(refreshes()).toHaveLength(0);
});

it("missing webhook triggers a refresh", async () => {
  useFastTime();
  const openedAt = Date.now();
  page.open(SUCCESS);
  await screen.findByText("Activating your plan…");
  page.service.respondOnce("refreshCheckoutSession", { status: 200, body: pro() });
  await advanceUntil(() => refreshes().length === 1);

  expect(await screen.findByText("Welcome to Pro")).toBeVisible();
  expect(refreshes()[0]?.path).toBe("/api/billing/checkout-sessions/cs_test_1/refresh/");
  expect(Number(refreshes()[0]?.at) - openedAt).toBeGreaterThanOrEqual(5000);
  await advance(60);
  expect(refreshes()).toHaveLength(1);
});

it("throttled refresh waits for Retry-After", async () => {
  useFastTime();
  page.service.respondOnce("refreshCheckoutSession", problem(429, "throttled", 20));
  page.open(SUCCESS);
  await screen.findByText("Activating your plan…");
  await advanceUntil(() => refreshes().length === 2);

  const [first, second] = refreshes();
  expect(Number(second?.at) - Number(first?.at)).toBeGreaterThanOrEqual(30_000);
});

it("failing refreshes show slow notice and stop after five", async () => {
  useFastTime();
  page.service.respondAlways("refreshCheckoutSession", problem(502, "stripe_unavailable"));
  page.open(SUCCESS);
  await screen.findByText("Activating your plan…");
  await advance(30);
  expect(await screen.findByText("This takes longer than usual")).toBeVisible();

  await advanceUntil(() => refreshes().length === 5);
  await advance(300);
  expect(refreshes()).toHaveLength(5);
  expect(screen.getByText("This takes longer than usual")).toBeVisible();
  expect(screen.queryByRole("button")).not.toBeInTheDocument();
  page.service.subscription = pro();
  page.service.breakStreams();
  await advance(60);
  expect(await screen.findByText("Welcome to Pro")).toBeVisible();
});

it("unconfirmed checkout shows notice and upgrade button", async () => {
  useFastTime();
  page.service.subscription = ended();
  page.open(SUCCESS);
  await screen.findByText("Activating your plan…");
  await advanceUntil(() => refreshes().length === 5);

  expect(await screen.findByText("We found no payment for this checkout")).toBeVisible();
  expect(screen.getByText("cs_test_1")).toBeVisible();
  expect(screen.getByRole("button", { name: "Upgrade" })).toBeVisible();
  expect(window.location.search).toBe("");
  page.service.subscription = pro();
  page.service.breakStreams();
  await advance(60);
  expect(await screen.findByText("Welcome to Pro")).toBeVisible();
});

it("checkout of another tenant shows notice and upgrade button", async () => {
  useFastTime();
  page.service.respondOnce("refreshCheckoutSession", problem(404, "not_found"));
  page.open(SUCCESS);
  await screen.findByText("Activating your plan…");
  await advanceUntil(() => refreshes().length === 1);

  expect(await screen.findByText("We could not find this checkout")).toBeVisible();
  expect(screen.getByRole("button", { name: "Upgrade" })).toBeVisible();
});

it("invalid session id is not refreshed and ends unconfirmed", async () => {
  useFastTime();
  page.open("?checkout=success&session_id=../../tenants/birch");
  await screen.findByText("Activating your plan…");
  await advance(160);

  expect(await screen.findByText("We found no payment for this checkout")).toBeVisible();
  expect(refreshes()).toHaveLength(0);
  expect(screen.queryByText(/birch/)).not.toBeInTheDocument();
});

it("strict mode activates plan after the redirect", async () => {
  useFastTime();
  page.open(SUCCESS, {}, { reactStrictMode: true });
  await screen.findByText("Activating your plan…");
  await advanceUntil(() => refreshes().length === 1);
  page.service.change(pro());

  expect(await screen.findByText("Welcome to Pro")).toBeVisible();
  expect(window.location.search).toBe("");
});

it("pending payment shows waiting badge", async () => {
  page.service.subscription = withoutAccess("active");
  page.open(SUCCESS);

  expect(await screen.findByText("Waiting for payment")).toBeVisible();
  expect(screen.queryByText(/Welcome|Activating/)).not.toBeInTheDocument();
});

it("canceled checkout shows notice and upgrade button", async () => {
  page.open("?checkout=canceled");

  expect(await screen.findByText("You left the checkout")).toBeVisible();
  expect(await screen.findByRole("button", { name: "Upgrade" })).toBeVisible();
  expect(window.location.search).toBe("");
});
