import { act, screen } from "@testing-library/react";
import { expect, it, vi } from "vitest";

import { useStage } from "./stage";
import { problem } from "./standIn";
import { ending, free, pro } from "./subscriptions";

const stage = useStage();

const streams = () => stage.service.of("streamSubscription").length;
const oneStream = () => vi.waitFor(() => expect(stage.service.openStreams).toBe(1), { timeout: 4000 });

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
    [ending(), "Ends soon"],
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

  await screen.findByText("Active", undefined, { timeout: 3000 });
  await vi.waitFor(() => expect(streams()).toBe(2), { timeout: 3000 });
});

it.each(["token_expired", "stopping", "too_long"] as const)(
  "comes back after the service ended a stream: %s",
  async (reason) => {
    stage.open();
    await screen.findByRole("region", { name: "Free" });
    await oneStream();
    stage.service.closeStreams(reason);
    await vi.waitFor(() => expect(stage.service.openStreams).toBe(0));

    await oneStream();
    expect(streams()).toBe(2);
  },
);

it("gets a new token for the next stream when the token is over", async () => {
  stage.getToken.mockImplementation(({ renew }) => (renew ? "new-token" : "good-token"));
  stage.open();
  await screen.findByRole("region", { name: "Free" });
  await oneStream();
  stage.service.token = "new-token";
  stage.service.closeStreams("token_expired");
  await vi.waitFor(() => expect(stage.service.openStreams).toBe(0));

  await oneStream();
  expect(screen.getByRole("alert")).toBeEmptyDOMElement();
});

it("polls ever more seldom while streams are refused, and leaves the service alone as long as it says", async () => {
  stage.service.answerAlways("streamSubscription", problem(503, "unavailable", 60));
  vi.useFakeTimers({
    shouldAdvanceTime: true,
    toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "Date"],
  });
  stage.open();
  await screen.findByRole("region", { name: "Free" });
  const asked = async (seconds: number) => {
    const before = stage.service.of("getSubscription").length;
    for (let second = 0; second < seconds; second += 1) {
      await vi.advanceTimersByTimeAsync(1000);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    return stage.service.of("getSubscription").length - before;
  };

  const early = await asked(20);
  const later = await asked(35);
  expect(early).toBeGreaterThanOrEqual(3);
  expect(later).toBeLessThan(early);
  expect(streams()).toBe(1);
  await asked(60);
  expect(streams()).toBe(2);
});

it("leaves a stream that has fallen silent", async () => {
  vi.useFakeTimers({
    shouldAdvanceTime: true,
    toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "Date"],
  });
  stage.open();
  await screen.findByRole("region", { name: "Free" });
  await oneStream();
  await vi.advanceTimersByTimeAsync(44_000);
  expect(streams()).toBe(1);
  await vi.advanceTimersByTimeAsync(3000);

  await vi.waitFor(() => expect(streams()).toBe(2), { timeout: 3000 });
});

it("holds no connection while nobody looks, and is right again when somebody does", async () => {
  stage.open();
  await screen.findByRole("region", { name: "Free" });
  await oneStream();
  becomes("hidden");
  await vi.waitFor(() => expect(stage.service.openStreams).toBe(0));
  stage.service.subscription = pro();

  becomes("visible");
  await screen.findByText("Active");
  expect(stage.service.of("getSubscription").length).toBeLessThanOrEqual(1);
});

it("comes back at once when the network does", async () => {
  stage.service.answerAlways("streamSubscription", problem(503, "unavailable"));
  vi.useFakeTimers({ shouldAdvanceTime: true, toFake: ["setTimeout", "clearTimeout", "Date"] });
  stage.open();
  await screen.findByRole("region", { name: "Free" });
  await vi.advanceTimersByTimeAsync(60_000);
  stage.service.heal();

  await vi.waitFor(() => {
    window.dispatchEvent(new Event("online"));
    expect(stage.service.openStreams).toBe(1);
  });
});

it("ends with the page", async () => {
  const { unmount } = stage.open();
  await screen.findByRole("region", { name: "Free" });
  await oneStream();
  unmount();

  await vi.waitFor(() => expect(stage.service.openStreams).toBe(0));
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
