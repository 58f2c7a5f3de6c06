import { act, screen, within } from "@testing-library/react";
import { expect, it, vi } from "vitest";

import { useStage } from "./stage";
import { type Answer, BROKEN_OFF, problem, TRACE_ID } from "./standIn";
import { free, pro } from "./subscriptions";
import { pass, passUntil, useFastTime } from "./time";

const stage = useStage();

/** The notice with all that stands in it, and the part of it that a screen reader says. */
const notice = () => screen.getByRole("alert").closest<HTMLElement>(".billhook-notice") ?? document.body;
const button = (name: string) => screen.findByRole("button", { name });

interface Row {
  what: string;
  answer: Answer | typeof BROKEN_OFF;
  title: string;
  next: RegExp;
  /** Whether the service has named the trace; else it is the request's own, which it may have got. */
  isNamed: boolean;
}

const html: Answer = { status: 502, body: "<h1>Bad Gateway</h1>" };

const rows: Row[] = [
  {
    what: "401",
    answer: problem(401, "not_authenticated"),
    title: "You are signed out",
    next: /Sign in again/,
    isNamed: true,
  },
  {
    what: "403",
    answer: problem(403, "not_allowed"),
    title: "You may not see billing",
    next: /administrator/,
    isNamed: true,
  },
  {
    what: "429",
    answer: problem(429, "throttled", 40),
    title: "That was a little too often",
    next: /40 seconds/,
    isNamed: true,
  },
  {
    what: "500",
    answer: problem(500, "internal"),
    title: "Something went wrong on our side",
    next: /Try again/,
    isNamed: true,
  },
  {
    what: "502 stripe_unavailable",
    answer: problem(502, "stripe_unavailable"),
    title: "Our payment provider does not answer",
    next: /in a minute/,
    isNamed: true,
  },
  {
    what: "502 stripe_rejected",
    answer: problem(502, "stripe_rejected"),
    title: "Our payment provider refused",
    next: /contact support/,
    isNamed: true,
  },
  {
    what: "502 of a proxy",
    answer: html,
    title: "Billing is not available right now",
    next: /back in a moment/,
    isNamed: false,
  },
  {
    what: "503 billing_not_configured",
    answer: problem(503, "billing_not_configured"),
    title: "Billing is not set up yet",
    next: /contact support/,
    isNamed: true,
  },
  {
    what: "503 unavailable",
    answer: problem(503, "unavailable", 5),
    title: "Billing is not available right now",
    next: /5 seconds/,
    isNamed: true,
  },
  {
    what: "an answer that never came",
    answer: BROKEN_OFF,
    title: "Billing cannot be reached",
    next: /Check your connection.*try again/,
    isNamed: false,
  },
  {
    what: "a page of somebody else's",
    answer: { status: 200, body: "<h1>Welcome</h1>" },
    title: "The answer makes no sense",
    next: /sign in/,
    isNamed: false,
  },
];

it.each(rows)("$what to a click says what to do next, and what to quote", async ({ answer, title, next, isNamed }) => {
  stage.open();
  const upgrade = await button("Upgrade");
  stage.service.answerAlways("createCheckoutSession", answer);
  await stage.user.click(upgrade);

  await screen.findByText(title);
  expect(notice()).toHaveTextContent(next);
  const [request] = stage.service.of("createCheckoutSession");
  expect(within(notice()).getByText(isNamed ? TRACE_ID : String(request?.traceId))).toBeVisible();
  expect(stage.assign).not.toHaveBeenCalled();
});

it.each(rows)(
  "$what to the first question says what to do next, and what to quote",
  async ({ answer, title, next, isNamed }) => {
    stage.service.answerAlways("getSubscription", answer);
    stage.service.answerAlways("streamSubscription", answer);
    stage.open();

    await screen.findByText(title);
    expect(notice()).toHaveTextContent(next);
    const [request] = stage.service.of("getSubscription");
    expect(within(notice()).getByText(isNamed ? TRACE_ID : String(request?.traceId))).toBeVisible();
    expect(within(notice()).getByRole("button")).toHaveTextContent("Try again");
  },
);

it("says that nothing was charged of a click, and not to somebody who may be back from paying", async () => {
  stage.service.answerOnce("getSubscription", problem(503, "unavailable"));
  stage.service.answerAlways("streamSubscription", problem(503, "unavailable", 60));
  stage.service.answerOnce("createCheckoutSession", problem(503, "unavailable"));
  stage.open();
  await screen.findByText("Billing is not available right now");
  expect(notice()).not.toHaveTextContent("charged");

  await stage.user.click(await button("Upgrade"));
  await screen.findByText("Billing is not available right now");
  expect(notice()).toHaveTextContent("Nothing was charged.");
});

it.each([
  ["none", {}],
  ["one that is no page's", { url: "javascript:alert(1)" }],
])("an answer with an address that leads nowhere (%s) leads nowhere", async (_, body) => {
  stage.service.answerOnce("createCheckoutSession", { status: 200, body });
  stage.open();
  await stage.user.click(await button("Upgrade"));

  await screen.findByText("The answer makes no sense");
  expect(stage.assign).not.toHaveBeenCalled();
});

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

  expect(await screen.findByRole("region", { name: "Free" })).toBeVisible();
  expect(screen.queryByRole("alert")).not.toBeInTheDocument();
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
  stage.service.answerAlways("getSubscription", { status: 200, body: free() });
  const release = stage.service.hold("createCheckoutSession");
  stage.service.answerOnce("createCheckoutSession", problem(409, "already_subscribed"));
  stage.open();
  await stage.user.click(await button("Upgrade"));
  await expect.poll(() => stage.service.of("createCheckoutSession")).toHaveLength(1);
  stage.service.answerAlways("getSubscription", { status: 200, body: pro() });
  release();

  await screen.findByText("You have a subscription already");
  expect(await button("Manage subscription")).toBeVisible();
});

it("counts a throttled wait down, and lets no click through before it is over", async () => {
  stage.open();
  const upgrade = await button("Upgrade");
  vi.useFakeTimers({ toFake: ["setInterval", "clearInterval", "Date"] });
  stage.service.answerOnce("createCheckoutSession", problem(429, "throttled", 3));
  await stage.user.click(upgrade);
  await screen.findByText("3 seconds");
  await stage.user.click(upgrade);
  expect(upgrade).toHaveAttribute("aria-disabled", "true");

  for (const left of ["2 seconds", "1 second", "You can try again now."]) {
    await act(() => vi.advanceTimersByTimeAsync(1000));
    expect(screen.getByText(left)).toBeVisible();
  }
  expect(stage.service.of("createCheckoutSession")).toHaveLength(1);
  await stage.user.click(upgrade);
  await expect.poll(() => stage.assign.mock.calls).toHaveLength(1);
});

it("a screen reader is told what is wrong and when it is over, and not of every second", async () => {
  stage.open();
  stage.service.answerOnce("createCheckoutSession", problem(429, "throttled", 2));
  await stage.user.click(await button("Upgrade"));

  const spoken = await screen.findByRole("alert");
  expect(spoken).toHaveAttribute("aria-atomic", "false");
  expect(spoken).toHaveTextContent("That was a little too often");
  expect(within(notice()).getByText("2 seconds")).toBeVisible();
  expect(spoken).not.toHaveTextContent(/second/);
  expect(spoken).not.toHaveTextContent(TRACE_ID);
  await within(spoken).findByText("You can try again now.");
});

it("stays as it is while the service is asked in vain again and again", async () => {
  stage.service.answerAlways("getSubscription", BROKEN_OFF);
  stage.service.answerAlways("streamSubscription", BROKEN_OFF);
  stage.open();
  await screen.findByText("Billing cannot be reached");
  const [shown, text] = [notice(), notice().textContent];
  const changes: MutationRecord[] = [];
  const observer = new MutationObserver((records) => changes.push(...records));
  observer.observe(document.body, { subtree: true, childList: true, characterData: true });

  await expect.poll(() => stage.service.of("getSubscription").length).toBeGreaterThanOrEqual(4);
  observer.disconnect();
  expect(changes).toEqual([]);
  expect(notice()).toBe(shown);
  expect(notice()).toHaveTextContent(text);
});

it("keeps the keyboard where it was while it tries again, and hands it on when there is nothing left to try", async () => {
  stage.service.answerAlways("getSubscription", problem(503, "unavailable"));
  stage.service.answerAlways("streamSubscription", problem(503, "unavailable", 60));
  stage.open();
  await stage.user.click(await button("Try again"));
  await expect.poll(() => screen.getByRole("button", { name: "Try again" })).toHaveFocus();

  const release = stage.service.hold("getSubscription");
  await stage.user.click(await button("Try again"));
  expect(await button("Trying…")).toHaveFocus();
  stage.service.heal();
  release();
  await screen.findByRole("region", { name: "Free" });
  expect(screen.getByRole("heading", { name: "Billing" })).toHaveFocus();
});

it("keeps what it knows while the service cannot be asked, and troubles nobody with a moment of that", async () => {
  stage.service.subscription = pro();
  stage.open();
  await screen.findByRole("region", { name: "Pro" });
  await expect.poll(() => stage.service.openStreams).toBe(1);
  const asked = stage.service.of("getSubscription").length;
  stage.service.answerAlways("getSubscription", problem(503, "unavailable"));
  stage.service.answerAlways("streamSubscription", problem(503, "unavailable"));
  stage.service.cutStreams();

  await screen.findByText("Billing is not available right now");
  expect(stage.service.of("getSubscription").length - asked).toBeGreaterThan(3);
  expect(screen.getByRole("region", { name: "Pro" })).toBeVisible();
});

it("leaves the service alone for as long as it says, so that the wait comes to an end", async () => {
  useFastTime();
  stage.service.answerAlways("getSubscription", problem(503, "unavailable", 40));
  stage.service.answerAlways("streamSubscription", problem(503, "unavailable", 40));
  stage.open();
  await screen.findByText(/You can try again in/);
  await pass(5);
  const asked = stage.service.of("getSubscription").length;
  const answered = Date.now();
  await passUntil(() => stage.service.of("getSubscription").length > asked);

  expect(Date.now() - answered).toBeGreaterThanOrEqual(30_000);
  stage.service.heal();
  await pass(45);
  expect(await screen.findByRole("region", { name: "Free" })).toBeVisible();
});

it("who comes back from signing in finds it done", async () => {
  stage.service.token = "another-token";
  stage.open();
  await screen.findByText("You are signed out");
  stage.service.token = "good-token";
  act(() => {
    document.dispatchEvent(new Event("visibilitychange"));
  });

  expect(await screen.findByRole("region", { name: "Free" })).toBeVisible();
  expect(screen.queryByRole("alert")).not.toBeInTheDocument();
});

it("who comes back from signing in finds a click that failed forgotten", async () => {
  stage.open();
  stage.service.answerAlways("createCheckoutSession", problem(401, "not_authenticated"));
  await stage.user.click(await button("Upgrade"));
  await screen.findByText("You are signed out");
  act(() => {
    document.dispatchEvent(new Event("visibilitychange"));
  });

  await expect.poll(() => screen.queryByRole("alert")).not.toBeInTheDocument();
});
