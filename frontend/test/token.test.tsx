import { screen } from "@testing-library/react";
import { expect, it, vi } from "vitest";

import { useStage } from "./stage";

const stage = useStage();

it("asks once for a new token when the old one is refused, and nobody notices", async () => {
  stage.getToken.mockImplementation(({ renew }) => (renew ? "good-token" : "old-token"));
  stage.service.answerAlways("streamSubscription", { status: 404, body: "" });
  stage.open();

  expect(await screen.findByRole("region", { name: "Free" })).toBeVisible();
  expect(
    stage.service
      .of("getSubscription")
      .map(({ token }) => token)
      .slice(0, 2),
  ).toEqual(["old-token", "good-token"]);
  expect(screen.queryByRole("alert")).not.toBeInTheDocument();
});

it("asks the application once for what is refused at the same time", async () => {
  let renewals = 0;
  stage.getToken.mockImplementation(async ({ renew }) => {
    if (!renew) return "old-token";
    renewals += 1;
    await new Promise((resolve) => setTimeout(resolve, 200));
    return "good-token";
  });
  stage.open();

  await screen.findByRole("region", { name: "Free" });
  await expect.poll(() => stage.service.openStreams).toBe(1);
  expect(renewals).toBe(1);
});

it("says that the user is signed out when the new token is refused too, and then leaves the service alone", async () => {
  stage.getToken.mockReturnValue("old-token");
  stage.open();

  await screen.findByText("You are signed out");
  const received = stage.service.received.length;
  await new Promise((resolve) => setTimeout(resolve, 1500));
  expect(stage.service.received).toHaveLength(received);
});

it("says that the user is signed out when the application has no token", async () => {
  stage.getToken.mockRejectedValue(new Error("no session"));
  stage.open();

  await screen.findByText("You are signed out");
  expect(stage.service.received).toHaveLength(0);
});

it("goes on by itself when the application could not get a token for want of a network", async () => {
  stage.getToken.mockRejectedValueOnce(new TypeError("Failed to fetch"));
  stage.getToken.mockRejectedValueOnce(new TypeError("Failed to fetch"));
  stage.open();

  await screen.findByText("Billing cannot be reached");
  expect(await screen.findByRole("region", { name: "Free" })).toBeVisible();
});

it("never puts the token into an address", async () => {
  stage.open("?checkout=success&session_id=cs_test_1");
  await screen.findByText("Activating your plan…");
  await expect.poll(() => stage.service.openStreams).toBe(1);

  for (const { path, token } of stage.service.received) {
    expect(path).not.toContain("token");
    expect(token).toBe("good-token");
  }
});

it("does not wait for ever for an application that never comes back with a token", async () => {
  const hurried = new AbortController();
  vi.spyOn(AbortSignal, "timeout").mockReturnValue(hurried.signal);
  stage.getToken.mockReturnValue(new Promise(() => undefined));
  stage.open();
  await screen.findByText("Loading your plan…");
  hurried.abort();

  expect(await screen.findByText("Billing cannot be reached")).toBeVisible();
});
