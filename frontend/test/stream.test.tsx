import { act, screen } from "@testing-library/react";
import { expect, it, vi } from "vitest";

import { usePageTest } from "./pageTest";
import { problem } from "./fakeService";
import { ending, free, pro } from "./subscriptions";
import { advanceUntil, useFastTime } from "./time";

const page = usePageTest();

const streams = () => page.service.requests("streamSubscription").length;
const expectOneStream = () => expect.poll(() => page.service.openStreams).toBe(1);
const expectSecondStream = () => expect.poll(streams).toBe(2);

function setVisibility(visibility: DocumentVisibilityState) {
  vi.spyOn(document, "visibilityState", "get").mockReturnValue(visibility);
  act(() => {
    document.dispatchEvent(new Event("visibilitychange"));
  });
}

it("changes are shown without requests", async () => {
  page.open();
  await screen.findByRole("region", { name: "Free" });
  await expectOneStream();
  for (const [subscription, badge] of [
    [pro(), "Active"],
    [ending(), "Canceled"],
    [pro(), "Active"],
    [free(), "Current plan"],
  ] as const) {
    page.service.change(subscription);
    await screen.findByText(badge);
  }
  expect(page.service.requests("getSubscription").length).toBeLessThanOrEqual(1);
});

it("late response does not replace newer stream message", async () => {
  const release = page.service.hold("getSubscription");
  page.open();
  await expectOneStream();
  page.service.change(pro());
  await screen.findByText("Active");
  page.service.respondOnce("getSubscription", { status: 200, body: free() });
  release();

  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(screen.getByText("Active")).toBeVisible();
});

it("broken stream is reopened without missing a change", async () => {
  page.open();
  await screen.findByRole("region", { name: "Free" });
  await expectOneStream();
  page.service.breakStreams();
  page.service.subscription = pro();

  await screen.findByText("Active");
  await expectSecondStream();
});

it.each(["token_expired", "stopping", "too_long"] as const)(
  "stream is reopened after the service closed it: %s",
  async (reason) => {
    page.open();
    await screen.findByRole("region", { name: "Free" });
    await expectOneStream();
    page.service.closeStreams(reason);

    await expectSecondStream();
    await expectOneStream();
  },
);

it("expired token is renewed for the next stream", async () => {
  page.getToken.mockImplementation(({ renew }) => (renew ? "new-token" : "good-token"));
  page.open();
  await screen.findByRole("region", { name: "Free" });
  await expectOneStream();
  page.service.token = "new-token";
  page.service.closeStreams("token_expired");

  // The second request has the old token and the third the new one.
  await expect.poll(streams).toBe(3);
  await expectOneStream();
  expect(screen.queryByRole("alert")).not.toBeInTheDocument();
});

it("refused streams cause polling with backoff and Retry-After", async () => {
  page.service.respondAlways("streamSubscription", problem(503, "unavailable", 60));
  useFastTime();
  page.open();
  await screen.findByRole("region", { name: "Free" });
  await advanceUntil(() => streams() === 2);

  const [first, second] = page.service.requests("streamSubscription");
  expect(Number(second?.at) - Number(first?.at)).toBeGreaterThanOrEqual(60_000);
  // The delays of 0.5 to 1 s, 1 to 2 s and so on up to 30 s allow nine polls. Polling every second
  // would be sixty.
  const polls = page.service.requests("getSubscription").filter(({ at }) => at < Number(second?.at));
  expect(polls.length).toBeGreaterThanOrEqual(3);
  expect(polls.length).toBeLessThanOrEqual(11);
});

it("silent stream is replaced", async () => {
  useFastTime();
  page.open();
  await screen.findByRole("region", { name: "Free" });
  await expectOneStream();
  const lastMessageAt = Date.now();
  await advanceUntil(() => streams() === 2);

  expect(Number(page.service.requests("streamSubscription")[1]?.at) - lastMessageAt).toBeGreaterThanOrEqual(40_000);
});

it("hidden page has no connection and updates when visible", async () => {
  page.open();
  await screen.findByRole("region", { name: "Free" });
  await expectOneStream();
  setVisibility("hidden");
  await expect.poll(() => page.service.openStreams).toBe(0);
  page.service.subscription = pro();

  setVisibility("visible");
  await screen.findByText("Active");
  expect(page.service.requests("getSubscription").length).toBeLessThanOrEqual(1);
});

it("online event reconnects at once", async () => {
  page.service.respondAlways("streamSubscription", problem(503, "unavailable"));
  useFastTime();
  page.open();
  await screen.findByRole("region", { name: "Free" });
  // By now a retry delay is longer than the timeout of the next assertion.
  await advanceUntil(() => streams() >= 6);
  page.service.reset();

  await expect
    .poll(() => {
      window.dispatchEvent(new Event("online"));
      return page.service.openStreams;
    })
    .toBe(1);
});

it("unmounting closes the stream", async () => {
  const { unmount } = page.open();
  await screen.findByRole("region", { name: "Free" });
  await expectOneStream();
  unmount();

  await expect.poll(() => page.service.openStreams).toBe(0);
});

it("strict mode opens one stream and sends one request", async () => {
  page.open("", {}, { reactStrictMode: true });
  await screen.findByRole("region", { name: "Free" });
  await expectOneStream();
  page.service.change(pro());

  await screen.findByText("Active");
  expect(page.service.openStreams).toBe(1);
  expect(page.service.requests("getSubscription").length).toBeLessThanOrEqual(2);
});

it("new getToken function does not reopen the stream", async () => {
  const { rerender } = page.open();
  await screen.findByRole("region", { name: "Free" });
  await expectOneStream();
  const { BillingPage } = await import("../src");
  for (let render = 0; render < 3; render += 1) {
    rerender(<BillingPage apiBase={page.service.url} getToken={() => "good-token"} />);
  }
  expect(streams()).toBe(1);
});
