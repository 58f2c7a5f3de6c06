import { screen, within } from "@testing-library/react";
import { expect, it, vi } from "vitest";

import { useStage } from "./stage";
import { type Answer, problem, TRACE_ID } from "./standIn";
import { pro } from "./subscriptions";

const stage = useStage();

const alert = () => screen.getByRole("alert");
const button = (name: string) => screen.findByRole("button", { name });

interface Row {
  what: string;
  answer: Answer;
  title: string;
  next: RegExp;
  traced: boolean;
}

const html: Answer = { status: 502, body: "<h1>Bad Gateway</h1>" };

const rows: Row[] = [
  {
    what: "401",
    answer: problem(401, "not_authenticated"),
    title: "You are signed out",
    next: /Sign in again/,
    traced: true,
  },
  {
    what: "403",
    answer: problem(403, "not_allowed"),
    title: "You may not see billing",
    next: /administrator/,
    traced: true,
  },
  {
    what: "429",
    answer: problem(429, "throttled", 40),
    title: "That was a little too often",
    next: /40 seconds/,
    traced: true,
  },
  {
    what: "500",
    answer: problem(500, "internal"),
    title: "Something went wrong on our side",
    next: /Try again/,
    traced: true,
  },
  {
    what: "502 stripe_unavailable",
    answer: problem(502, "stripe_unavailable"),
    title: "Our payment provider does not answer",
    next: /in a minute/,
    traced: true,
  },
  {
    what: "502 stripe_rejected",
    answer: problem(502, "stripe_rejected"),
    title: "Our payment provider refused",
    next: /contact support/,
    traced: true,
  },
  {
    what: "502 of a proxy",
    answer: html,
    title: "Billing is not available right now",
    next: /back in a moment/,
    traced: false,
  },
  {
    what: "503 billing_not_configured",
    answer: problem(503, "billing_not_configured"),
    title: "Billing is not set up yet",
    next: /contact support/,
    traced: true,
  },
  {
    what: "503 unavailable",
    answer: problem(503, "unavailable", 5),
    title: "Billing is not available right now",
    next: /5 seconds/,
    traced: true,
  },
  {
    what: "a page of somebody else's",
    answer: { status: 200, body: "<h1>Welcome</h1>" },
    title: "The answer makes no sense",
    next: /sign in/,
    traced: false,
  },
];

it.each(rows)("$what to a click says what to do next, and what to quote", async ({ answer, title, next, traced }) => {
  stage.open();
  const upgrade = await button("Upgrade");
  stage.service.answerAlways("createCheckoutSession", answer);
  await stage.user.click(upgrade);

  await screen.findByText(title);
  expect(alert()).toHaveTextContent(next);
  expect(within(alert()).queryAllByText(TRACE_ID)).toHaveLength(traced ? 1 : 0);
  expect(stage.assign).not.toHaveBeenCalled();
});

it.each(rows)(
  "$what to the first question says what to do next, and what to quote",
  async ({ answer, title, next, traced }) => {
    stage.service.answerAlways("getSubscription", answer);
    stage.service.answerAlways("streamSubscription", answer);
    stage.open();

    await screen.findByText(title);
    expect(alert()).toHaveTextContent(next);
    expect(within(alert()).queryAllByText(TRACE_ID)).toHaveLength(traced ? 1 : 0);
    expect(within(alert()).getByRole("button")).toHaveTextContent(/^Try/);
  },
);

it("no answer at all says so", async () => {
  await stage.service.stop();
  stage.open();
  await screen.findByText("Billing cannot be reached");
  expect(screen.queryByText("Loading your plan…")).not.toBeInTheDocument();
});

it("mends itself when the service is back", async () => {
  stage.service.answerAlways("getSubscription", problem(503, "unavailable"));
  stage.service.answerAlways("streamSubscription", problem(503, "unavailable"));
  stage.open();
  await screen.findByText("Billing is not available right now");
  stage.service.heal();

  expect(await screen.findByRole("region", { name: "Free" }, { timeout: 3000 })).toBeVisible();
  expect(alert()).toBeEmptyDOMElement();
});

it("asks at once when it is told to", async () => {
  stage.service.token = "another-token";
  stage.open();
  await screen.findByText("You are signed out");
  stage.service.token = "good-token";
  await stage.user.click(await button("Try again"));

  expect(await screen.findByRole("region", { name: "Free" })).toBeVisible();
});

it("409 already_subscribed shows what there is now", async () => {
  stage.service.answerAlways("streamSubscription", problem(503, "unavailable", 60));
  stage.open();
  const upgrade = await button("Upgrade");
  stage.service.subscription = pro();
  stage.service.answerOnce("createCheckoutSession", problem(409, "already_subscribed"));
  await stage.user.click(upgrade);

  await screen.findByText("You have a subscription already");
  expect(await button("Manage subscription")).toBeVisible();
});

it("counts a throttled wait down, and lets no click through before it is over", async () => {
  stage.open();
  const upgrade = await button("Upgrade");
  stage.service.answerOnce("createCheckoutSession", problem(429, "throttled", 3));
  await stage.user.click(upgrade);
  await screen.findByText("3 seconds");
  await stage.user.click(upgrade);
  expect(upgrade).toHaveAttribute("aria-disabled", "true");

  await screen.findByText("2 seconds", undefined, { timeout: 2000 });
  await screen.findByText("1 second", undefined, { timeout: 2000 });
  await screen.findByText("You can try again now.", undefined, { timeout: 2000 });
  expect(stage.service.of("createCheckoutSession")).toHaveLength(1);
  await stage.user.click(upgrade);
  await expect.poll(() => stage.assign.mock.calls).toHaveLength(1);
});

it("a screen reader is not told of every second", async () => {
  stage.open();
  stage.service.answerOnce("createCheckoutSession", problem(429, "throttled", 30));
  await stage.user.click(await button("Upgrade"));

  const left = await screen.findByText("30 seconds");
  expect(left.closest("[aria-hidden]")).not.toBeNull();
});

it("keeps what it knows while the service cannot be asked", async () => {
  stage.service.subscription = pro();
  stage.open();
  await screen.findByRole("region", { name: "Pro" });
  await vi.waitFor(() => expect(stage.service.openStreams).toBe(1));
  stage.service.answerAlways("getSubscription", problem(503, "unavailable"));
  stage.service.answerAlways("streamSubscription", problem(503, "unavailable"));
  stage.service.cutStreams();

  await screen.findByText("Billing is not available right now");
  expect(screen.getByRole("region", { name: "Pro" })).toBeVisible();
});
