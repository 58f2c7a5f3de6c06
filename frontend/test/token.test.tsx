import { screen } from "@testing-library/react";
import { expect, it, vi } from "vitest";

import { usePageTest } from "./pageTest";

const page = usePageTest();

it("rejected token is renewed once without a notice", async () => {
  page.getToken.mockImplementation(({ renew }) => (renew ? "good-token" : "old-token"));
  page.service.respondAlways("streamSubscription", { status: 404, body: "" });
  page.open();

  expect(await screen.findByRole("region", { name: "Free" })).toBeVisible();
  expect(
    page.service
      .requests("getSubscription")
      .map(({ token }) => token)
      .slice(0, 2),
  ).toEqual(["old-token", "good-token"]);
  expect(screen.queryByRole("alert")).not.toBeInTheDocument();
});

it("concurrent rejected requests share one renewal", async () => {
  let renewals = 0;
  page.getToken.mockImplementation(async ({ renew }) => {
    if (!renew) return "old-token";
    renewals += 1;
    await new Promise((resolve) => setTimeout(resolve, 200));
    return "good-token";
  });
  page.open();

  await screen.findByRole("region", { name: "Free" });
  await expect.poll(() => page.service.openStreams).toBe(1);
  expect(renewals).toBe(1);
});

it("rejected new token shows signed out and stops requests", async () => {
  page.getToken.mockReturnValue("old-token");
  page.open();

  await screen.findByText("You are signed out");
  const received = page.service.received.length;
  await new Promise((resolve) => setTimeout(resolve, 1500));
  expect(page.service.received).toHaveLength(received);
});

it("missing token shows signed out without a request", async () => {
  page.getToken.mockRejectedValue(new Error("no session"));
  page.open();

  await screen.findByText("You are signed out");
  expect(page.service.received).toHaveLength(0);
});

it("network error of getToken is retried", async () => {
  page.getToken.mockRejectedValueOnce(new TypeError("Failed to fetch"));
  page.getToken.mockRejectedValueOnce(new TypeError("Failed to fetch"));
  page.open();

  await screen.findByText("Billing cannot be reached");
  expect(await screen.findByRole("region", { name: "Free" })).toBeVisible();
});

it("token is never in a URL", async () => {
  page.open("?checkout=success&session_id=cs_test_1");
  await screen.findByText("Activating your plan…");
  await expect.poll(() => page.service.openStreams).toBe(1);

  for (const { path, token } of page.service.received) {
    expect(path).not.toContain("token");
    expect(token).toBe("good-token");
  }
});

it("request timeout includes getToken", async () => {
  const timeout = new AbortController();
  vi.spyOn(AbortSignal, "timeout").mockReturnValue(timeout.signal);
  page.getToken.mockReturnValue(new Promise(() => undefined));
  page.open();
  await screen.findByText("Loading your plan…");
  timeout.abort();

  expect(await screen.findByText("Billing cannot be reached")).toBeVisible();
});
