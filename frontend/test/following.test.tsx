import { act, screen } from "@testing-library/react";
import { expect, it, vi } from "vitest";

import { useStage } from "./stage";
import { problem } from "./standIn";
import { ending, free, pro } from "./subscriptions";
import { passUntil, useFastTime } from "./time";

const stage = useStage();

const streams = () => stage.service.of("streamSubscription").length;
const oneStream = () => expect.poll(() => stage.service.openStreams).toBe(1);
const secondStream = () => expect.poll(streams).toBe(2);

function becomes(visibility: DocumentVisibilityState) {
  vi.spyOn(document, "visibilityState", "get").mockReturnValue(visibility);
  act(() => {
    document.dispatchEvent(new Event("visibilitychange"));
  });
}

it("shows every change without asking", async () => {
  stage.open();
  await screen.findByRole("region", { name: "Free" });
  await oneStream();
  for (const [subscription, badge] of [
    [pro(), "Active"],
    [ending(), "Canceled"],
    [pro(), "Active"],
    [free(), "Current plan"],
  ] as const) {
    stage.service.change(subscription);
    await screen.findByText(badge);
  }
  expect(stage.service.of("getSubscription").length).toBeLessThanOrEqual(1);
});

it("is not set back by an older answer that comes after a newer message", async () => {
  const release = stage.service.hold("getSubscription");
  stage.open();
  await oneStream();
  stage.service.change(pro());
  await screen.findByText("Active");
  stage.service.answerOnce("getSubscription", { status: 200, body: free() });
  release();

  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(screen.getByText("Active")).toBeVisible();
});

it("comes back after a stream that was cut off, and misses nothing", async () => {
  stage.open();
  await screen.findByRole("region", { name: "Free" });
  await oneStream();
  stage.service.cutStreams();
  stage.service.subscription = pro();

  await screen.findByText("Active");
  await secondStream();
});

it.each(["token_expired", "stopping", "too_long"] as const)(
  "comes back after the service ended a stream: %s",
  async (reason) => {
    stage.open();
    await screen.findByRole("region", { name: "Free" });
    await oneStream();
    stage.service.closeStreams(reason);

    await secondStream();
    await oneStream();
  },
);

it("gets a new token for the next stream when the token is over", async () => {
  stage.getToken.mockImplementation(({ renew }) => (renew ? "new-token" : "good-token"));
  stage.open();
  await screen.findByRole("region", { name: "Free" });
  await oneStream();
  stage.service.token = "new-token";
  stage.service.closeStreams("token_expired");

  // One with the old token, and after that one with the new.
  await expect.poll(streams).toBe(3);
  await oneStream();
  expect(screen.queryByRole("alert")).not.toBeInTheDocument();
});

it("polls ever more seldom while streams are refused, and leaves the service alone as long as it says", async () => {
  stage.service.answerAlways("streamSubscription", problem(503, "unavailable", 60));
  useFastTime();
  stage.open();
  await screen.findByRole("region", { name: "Free" });
  await passUntil(() => streams() === 2);

  const [first, second] = stage.service.of("streamSubscription");
  expect(Number(second?.at) - Number(first?.at)).toBeGreaterThanOrEqual(60_000);
  // The pauses of half a second to a second, one to two, and so on up to thirty leave room for nine; every second there
  // would be sixty.
  const polls = stage.service.of("getSubscription").filter(({ at }) => at < Number(second?.at));
  expect(polls.length).toBeGreaterThanOrEqual(3);
  expect(polls.length).toBeLessThanOrEqual(11);
});

it("leaves a stream that has fallen silent", async () => {
  useFastTime();
  stage.open();
  await screen.findByRole("region", { name: "Free" });
  await oneStream();
  const spoke = Date.now();
  await passUntil(() => streams() === 2);

  expect(Number(stage.service.of("streamSubscription")[1]?.at) - spoke).toBeGreaterThanOrEqual(40_000);
});

it("holds no connection while nobody looks, and is right again when somebody does", async () => {
  stage.open();
  await screen.findByRole("region", { name: "Free" });
  await oneStream();
  becomes("hidden");
  await expect.poll(() => stage.service.openStreams).toBe(0);
  stage.service.subscription = pro();

  becomes("visible");
  await screen.findByText("Active");
  expect(stage.service.of("getSubscription").length).toBeLessThanOrEqual(1);
});

it("comes back at once when the network does", async () => {
  stage.service.answerAlways("streamSubscription", problem(503, "unavailable"));
  useFastTime();
  stage.open();
  await screen.findByRole("region", { name: "Free" });
  // By now a pause is longer than what follows would wait for.
  await passUntil(() => streams() >= 6);
  stage.service.heal();

  await expect
    .poll(() => {
      window.dispatchEvent(new Event("online"));
      return stage.service.openStreams;
    })
    .toBe(1);
});

it("ends with the page", async () => {
  const { unmount } = stage.open();
  await screen.findByRole("region", { name: "Free" });
  await oneStream();
  unmount();

  await expect.poll(() => stage.service.openStreams).toBe(0);
});

it("holds one connection, and asks once, where React mounts everything twice", async () => {
  stage.open("", {}, { reactStrictMode: true });
  await screen.findByRole("region", { name: "Free" });
  await oneStream();
  stage.service.change(pro());

  await screen.findByText("Active");
  expect(stage.service.openStreams).toBe(1);
  expect(stage.service.of("getSubscription").length).toBeLessThanOrEqual(2);
});

it("does not begin anew because the application renders it with another function", async () => {
  const { rerender } = stage.open();
  await screen.findByRole("region", { name: "Free" });
  await oneStream();
  const { BillingPage } = await import("../src");
  for (let render = 0; render < 3; render += 1) {
    rerender(<BillingPage apiBase={stage.service.url} getToken={() => "good-token"} />);
  }
  expect(streams()).toBe(1);
});
