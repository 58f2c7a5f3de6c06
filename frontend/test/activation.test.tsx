import { screen } from "@testing-library/react";
import { expect, it, vi } from "vitest";

import { useStage } from "./stage";
import { problem } from "./standIn";
import { ending, pro, withoutAccess } from "./subscriptions";

const stage = useStage();

const BACK = "?checkout=success&session_id=cs_test_1";

/** Time passes at its own speed, and faster when a test says so. */
function useFastTime() {
  vi.useFakeTimers({
    shouldAdvanceTime: true,
    toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "Date"],
  });
}

it("turns to Pro by itself when the webhook is there, without asking anything more", async () => {
  stage.open(BACK);
  await screen.findByText("Activating your plan…");
  await vi.waitFor(() => expect(stage.service.openStreams).toBe(1));
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

  await vi.waitFor(() => expect(stage.service.openStreams).toBe(1));
  stage.service.change(ending());
  await screen.findByText("Ends soon");
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

  expect(await screen.findByText("Welcome to Pro", undefined, { timeout: 4000 })).toBeVisible();
  expect(stage.service.of("refreshCheckoutSession")).toHaveLength(0);
});

it("has Stripe asked when the webhook does not come", async () => {
  useFastTime();
  stage.open(BACK);
  await screen.findByText("Activating your plan…");
  expect(stage.service.of("refreshCheckoutSession")).toHaveLength(0);
  stage.service.answerOnce("refreshCheckoutSession", { status: 200, body: pro() });
  await vi.advanceTimersByTimeAsync(5000);

  expect(await screen.findByText("Welcome to Pro")).toBeVisible();
  expect(stage.service.of("refreshCheckoutSession").map(({ path }) => path)).toEqual([
    "/api/billing/checkout-sessions/cs_test_1/refresh/",
  ]);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(stage.service.of("refreshCheckoutSession")).toHaveLength(1);
});

it("waits as long as a throttled question says before it has Stripe asked again", async () => {
  useFastTime();
  stage.open(BACK);
  await screen.findByText("Activating your plan…");
  stage.service.answerOnce("refreshCheckoutSession", problem(429, "throttled", 20));
  await vi.advanceTimersByTimeAsync(5000);
  await vi.waitFor(() => expect(stage.service.of("refreshCheckoutSession")).toHaveLength(1));

  await vi.advanceTimersByTimeAsync(19_000);
  expect(stage.service.of("refreshCheckoutSession")).toHaveLength(1);
  await vi.advanceTimersByTimeAsync(12_000);
  await vi.waitFor(() => expect(stage.service.of("refreshCheckoutSession")).toHaveLength(2));
});

it("says that it takes long, goes on by itself, and does not ask for ever", async () => {
  useFastTime();
  stage.open(BACK);
  await screen.findByText("Activating your plan…");
  await vi.advanceTimersByTimeAsync(30_000);
  expect(await screen.findByText("This takes longer than usual")).toBeVisible();
  expect(screen.queryByRole("button")).not.toBeInTheDocument();

  for (let minute = 0; minute < 10; minute += 1) {
    await vi.advanceTimersByTimeAsync(60_000);
    // The answer's way through real sockets takes no time that could be advanced.
    await new Promise((resolve) => setImmediate(resolve));
  }
  expect(stage.service.of("refreshCheckoutSession")).toHaveLength(5);
  stage.service.subscription = pro();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(await screen.findByText("Welcome to Pro")).toBeVisible();
});

it("says when the checkout is not this tenant's, and offers what there is", async () => {
  useFastTime();
  stage.service.answerOnce("refreshCheckoutSession", problem(404, "not_found"));
  stage.open(BACK);
  await screen.findByText("Activating your plan…");
  await vi.advanceTimersByTimeAsync(5000);

  expect(await screen.findByText("We do not know this checkout")).toBeVisible();
  expect(screen.getByRole("button", { name: "Upgrade" })).toBeVisible();
});

it("asks nothing about a session that cannot be Stripe's", async () => {
  useFastTime();
  stage.open("?checkout=success&session_id=../../tenants/birch");
  await screen.findByText("Activating your plan…");
  await vi.advanceTimersByTimeAsync(20_000);
  expect(stage.service.of("refreshCheckoutSession")).toHaveLength(0);
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
