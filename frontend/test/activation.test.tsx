import { screen } from "@testing-library/react";
import { expect, it } from "vitest";

import { useStage } from "./stage";
import { problem } from "./standIn";
import { ended, ending, pro, withoutAccess } from "./subscriptions";
import { pass, passUntil, useFastTime } from "./time";

const stage = useStage();

const BACK = "?checkout=success&session_id=cs_test_1";

const asks = () => stage.service.of("refreshCheckoutSession");

it("turns to Pro by itself when the webhook is there, without asking anything more", async () => {
  stage.open(BACK);
  await screen.findByText("Activating your plan…");
  await expect.poll(() => stage.service.openStreams).toBe(1);
  expect(screen.queryByRole("button")).not.toBeInTheDocument();
  stage.service.change(pro());

  expect(await screen.findByText("Welcome to Pro")).toBeVisible();
  expect(screen.getByRole("button", { name: "Manage subscription" })).toBeVisible();
  expect(stage.service.of("getSubscription").length).toBeLessThanOrEqual(1);
  expect(stage.service.of("refreshCheckoutSession")).toHaveLength(0);
});

it("stays welcome when the subscription changes later, and a reload finds no trace of the return", async () => {
  stage.service.subscription = pro();
  stage.open(`${BACK}&tab=plan`);
  await screen.findByText("Welcome to Pro");
  expect(window.location.search).toBe("?tab=plan");

  await expect.poll(() => stage.service.openStreams).toBe(1);
  stage.service.change(ending());
  await screen.findByText("Canceled");
  expect(screen.getByText("Welcome to Pro")).toBeVisible();
});

it("keeps the return in the address while it is not over, so that a reload goes on", async () => {
  stage.open(BACK);
  await screen.findByText("Activating your plan…");
  expect(window.location.search).toBe(BACK);
});

it("turns to Pro by polling where streams are refused", async () => {
  stage.service.answerAlways("streamSubscription", problem(503, "unavailable", 60));
  stage.open(BACK);
  await screen.findByText("Activating your plan…");
  stage.service.subscription = pro();

  expect(await screen.findByText("Welcome to Pro")).toBeVisible();
  expect(stage.service.of("refreshCheckoutSession")).toHaveLength(0);
});

it("has Stripe asked when the webhook does not come", async () => {
  useFastTime();
  const opened = Date.now();
  stage.open(BACK);
  await screen.findByText("Activating your plan…");
  stage.service.answerOnce("refreshCheckoutSession", { status: 200, body: pro() });
  await passUntil(() => asks().length === 1);

  expect(await screen.findByText("Welcome to Pro")).toBeVisible();
  expect(asks()[0]?.path).toBe("/api/billing/checkout-sessions/cs_test_1/refresh/");
  expect(Number(asks()[0]?.at) - opened).toBeGreaterThanOrEqual(5000);
  await pass(60);
  expect(asks()).toHaveLength(1);
});

it("waits as long as a throttled question says before it has Stripe asked again", async () => {
  useFastTime();
  stage.service.answerOnce("refreshCheckoutSession", problem(429, "throttled", 20));
  stage.open(BACK);
  await screen.findByText("Activating your plan…");
  await passUntil(() => asks().length === 2);

  const [first, second] = asks();
  expect(Number(second?.at) - Number(first?.at)).toBeGreaterThanOrEqual(30_000);
});

it("says that it takes long while Stripe cannot be asked, does not ask for ever, and goes on by itself", async () => {
  useFastTime();
  stage.service.answerAlways("refreshCheckoutSession", problem(502, "stripe_unavailable"));
  stage.open(BACK);
  await screen.findByText("Activating your plan…");
  await pass(30);
  expect(await screen.findByText("This takes longer than usual")).toBeVisible();

  await passUntil(() => asks().length === 5);
  await pass(300);
  expect(asks()).toHaveLength(5);
  expect(screen.getByText("This takes longer than usual")).toBeVisible();
  expect(screen.queryByRole("button")).not.toBeInTheDocument();
  stage.service.subscription = pro();
  stage.service.cutStreams();
  await pass(60);
  expect(await screen.findByText("Welcome to Pro")).toBeVisible();
});

it("does not wait for ever for what Stripe knows nothing of: it says so, and offers what there is", async () => {
  useFastTime();
  stage.service.subscription = ended();
  stage.open(BACK);
  await screen.findByText("Activating your plan…");
  await passUntil(() => asks().length === 5);

  expect(await screen.findByText("We found no payment for this checkout")).toBeVisible();
  expect(screen.getByText("cs_test_1")).toBeVisible();
  expect(screen.getByRole("button", { name: "Upgrade" })).toBeVisible();
  expect(window.location.search).toBe("");
  stage.service.subscription = pro();
  stage.service.cutStreams();
  await pass(60);
  expect(await screen.findByText("Welcome to Pro")).toBeVisible();
});

it("says when the checkout is not this tenant's, and offers what there is", async () => {
  useFastTime();
  stage.service.answerOnce("refreshCheckoutSession", problem(404, "not_found"));
  stage.open(BACK);
  await screen.findByText("Activating your plan…");
  await passUntil(() => asks().length === 1);

  expect(await screen.findByText("We do not know this checkout")).toBeVisible();
  expect(screen.getByRole("button", { name: "Upgrade" })).toBeVisible();
});

it("asks nothing about a session that cannot be Stripe's, and does not wait for ever for it either", async () => {
  useFastTime();
  stage.open("?checkout=success&session_id=../../tenants/birch");
  await screen.findByText("Activating your plan…");
  await pass(160);

  expect(await screen.findByText("We found no payment for this checkout")).toBeVisible();
  expect(asks()).toHaveLength(0);
  expect(screen.queryByText(/birch/)).not.toBeInTheDocument();
});

it("finds its way back where React mounts everything twice", async () => {
  useFastTime();
  stage.open(BACK, {}, { reactStrictMode: true });
  await screen.findByText("Activating your plan…");
  await passUntil(() => asks().length === 1);
  stage.service.change(pro());

  expect(await screen.findByText("Welcome to Pro")).toBeVisible();
  expect(window.location.search).toBe("");
});

it("says of a slow payment that it is on its way", async () => {
  stage.service.subscription = withoutAccess("active");
  stage.open(BACK);

  expect(await screen.findByText("Waiting for payment")).toBeVisible();
  expect(screen.queryByText(/Welcome|Activating/)).not.toBeInTheDocument();
});

it("says that nothing was charged when the checkout was left", async () => {
  stage.open("?checkout=canceled");

  expect(await screen.findByText("You left the checkout")).toBeVisible();
  expect(await screen.findByRole("button", { name: "Upgrade" })).toBeVisible();
  expect(window.location.search).toBe("");
});
