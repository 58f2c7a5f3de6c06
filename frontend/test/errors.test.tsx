import { act, screen, within } from "@testing-library/react";
import { expect, it, vi } from "vitest";

import { usePageTest } from "./pageTest";
import { type FakeResponse, CONNECTION_RESET, problem, TRACE_ID } from "./fakeService";
import { free, pro } from "./subscriptions";
import { advance, advanceUntil, useFastTime } from "./time";

const page = usePageTest();

/** The whole notice. Its alert is the part that screen readers announce. */
const notice = () => screen.getByRole("alert").closest<HTMLElement>(".billhook-notice") ?? document.body;
const button = (name: string) => screen.findByRole("button", { name });

interface Row {
  name: string;
  response: FakeResponse | typeof CONNECTION_RESET;
  title: string;
  text: RegExp;
  /** Whether the response has a trace id. Otherwise the page shows that of its request. */
  hasTraceId: boolean;
}

const rows: Row[] = [
  {
    name: "401",
    response: problem(401, "not_authenticated"),
    title: "You are signed out",
    text: /Sign in again/,
    hasTraceId: true,
  },
  {
    name: "403",
    response: problem(403, "not_allowed"),
    title: "You do not have access to billing",
    text: /administrator/,
    hasTraceId: true,
  },
  {
    name: "429",
    response: problem(429, "throttled", 40),
    title: "Too many requests",
    text: /40 seconds/,
    hasTraceId: true,
  },
  {
    name: "500",
    response: problem(500, "internal"),
    title: "Something went wrong on our side",
    text: /Try again/,
    hasTraceId: true,
  },
  {
    name: "502 stripe_unavailable",
    response: problem(502, "stripe_unavailable"),
    title: "Our payment provider is not responding",
    text: /in a minute/,
    hasTraceId: true,
  },
  {
    name: "502 stripe_rejected",
    response: problem(502, "stripe_rejected"),
    title: "Our payment provider rejected the request",
    text: /Contact support/,
    hasTraceId: true,
  },
  {
    name: "502 of a proxy",
    response: { status: 502, body: "<h1>Bad Gateway</h1>" },
    title: "Billing is temporarily unavailable",
    text: /back in a moment/,
    hasTraceId: false,
  },
  {
    name: "503 billing_not_configured",
    response: problem(503, "billing_not_configured"),
    title: "Billing is not set up yet",
    text: /Contact support/,
    hasTraceId: true,
  },
  {
    name: "503 unavailable",
    response: problem(503, "unavailable", 5),
    title: "Billing is temporarily unavailable",
    text: /5 seconds/,
    hasTraceId: true,
  },
  {
    name: "closed connection",
    response: CONNECTION_RESET,
    title: "Billing cannot be reached",
    text: /Check your internet connection.*try again/,
    hasTraceId: false,
  },
  {
    name: "HTML page",
    response: { status: 200, body: "<h1>Welcome</h1>" },
    title: "Billing sent an unexpected response",
    text: /sign in/,
    hasTraceId: false,
  },
];

it.each(rows)("$name after a click shows text and trace id", async ({ response, title, text, hasTraceId }) => {
  page.open();
  const upgrade = await button("Upgrade");
  page.service.respondAlways("createCheckoutSession", response);
  await page.user.click(upgrade);

  await screen.findByText(title);
  expect(notice()).toHaveTextContent(text);
  const [request] = page.service.requests("createCheckoutSession");
  expect(within(notice()).getByText(hasTraceId ? TRACE_ID : String(request?.traceId))).toBeVisible();
  expect(page.assign).not.toHaveBeenCalled();
});

it.each(rows)(
  "$name while loading shows text, trace id and retry button",
  async ({ response, title, text, hasTraceId }) => {
    page.service.respondAlways("getSubscription", response);
    page.service.respondAlways("streamSubscription", response);
    page.open();

    await screen.findByText(title);
    expect(notice()).toHaveTextContent(text);
    const [request] = page.service.requests("getSubscription");
    expect(within(notice()).getByText(hasTraceId ? TRACE_ID : String(request?.traceId))).toBeVisible();
    expect(within(notice()).getByRole("button")).toHaveTextContent("Try again");
  },
);

it("only an error after a click says that it charged nothing", async () => {
  page.service.respondOnce("getSubscription", problem(503, "unavailable"));
  page.service.respondAlways("streamSubscription", problem(503, "unavailable", 60));
  page.service.respondOnce("createCheckoutSession", problem(503, "unavailable"));
  page.open();
  await screen.findByText("Billing is temporarily unavailable");
  expect(notice()).not.toHaveTextContent("charged");

  await page.user.click(await button("Upgrade"));
  await screen.findByText("Billing is temporarily unavailable");
  expect(notice()).toHaveTextContent("This attempt charged nothing.");
});

it.each([
  ["missing", {}],
  ["javascript", { url: "javascript:alert(1)" }],
])("%s URL in checkout response is not opened", async (_, body) => {
  page.service.respondOnce("createCheckoutSession", { status: 200, body });
  page.open();
  await page.user.click(await button("Upgrade"));

  await screen.findByText("Billing sent an unexpected response");
  expect(page.assign).not.toHaveBeenCalled();
});

it("unreachable service shows error instead of loading", async () => {
  await page.service.stop();
  page.open();
  await screen.findByText("Billing cannot be reached");
  expect(screen.queryByText("Loading your plan…")).not.toBeInTheDocument();
});

it("error disappears when the service recovers", async () => {
  page.service.respondAlways("getSubscription", problem(503, "unavailable"));
  page.service.respondAlways("streamSubscription", problem(503, "unavailable"));
  page.open();
  await screen.findByText("Billing is temporarily unavailable");
  page.service.reset();

  expect(await screen.findByRole("region", { name: "Free" })).toBeVisible();
  expect(screen.queryByRole("alert")).not.toBeInTheDocument();
});

it("retry button sends a request at once", async () => {
  page.service.token = "another-token";
  page.open();
  await screen.findByText("You are signed out");
  page.service.token = "good-token";
  await page.user.click(await button("Try again"));

  expect(await screen.findByRole("region", { name: "Free" })).toBeVisible();
});

it("already_subscribed reloads the subscription", async () => {
  page.service.respondAlways("streamSubscription", problem(503, "unavailable", 60));
  page.service.respondAlways("getSubscription", { status: 200, body: free() });
  const release = page.service.hold("createCheckoutSession");
  page.service.respondOnce("createCheckoutSession", problem(409, "already_subscribed"));
  page.open();
  await page.user.click(await button("Upgrade"));
  await expect.poll(() => page.service.requests("createCheckoutSession")).toHaveLength(1);
  page.service.respondAlways("getSubscription", { status: 200, body: pro() });
  release();

  await screen.findByText("You already have a subscription");
  expect(await button("Manage subscription")).toBeVisible();
});

it("throttled click counts down and blocks until then", async () => {
  page.open();
  const upgrade = await button("Upgrade");
  vi.useFakeTimers({ toFake: ["setInterval", "clearInterval", "Date"] });
  page.service.respondOnce("createCheckoutSession", problem(429, "throttled", 3));
  await page.user.click(upgrade);
  await screen.findByText("3 seconds");
  await page.user.click(upgrade);
  expect(upgrade).toHaveAttribute("aria-disabled", "true");

  for (const left of ["2 seconds", "1 second", "You can try again now."]) {
    await act(() => vi.advanceTimersByTimeAsync(1000));
    expect(screen.getByText(left)).toBeVisible();
  }
  expect(page.service.requests("createCheckoutSession")).toHaveLength(1);
  await page.user.click(upgrade);
  await expect.poll(() => page.assign.mock.calls).toHaveLength(1);
});

it("screen reader announces error and end of wait, not countdown", async () => {
  page.open();
  page.service.respondOnce("createCheckoutSession", problem(429, "throttled", 2));
  await page.user.click(await button("Upgrade"));

  const alert = await screen.findByRole("alert");
  expect(alert).toHaveAttribute("aria-atomic", "false");
  expect(alert).toHaveTextContent("Too many requests");
  expect(within(notice()).getByText("2 seconds")).toBeVisible();
  expect(alert).not.toHaveTextContent(/second/);
  expect(alert).not.toHaveTextContent(TRACE_ID);
  await within(alert).findByText("You can try again now.");
});

it("repeated failures do not change the notice", async () => {
  page.service.respondAlways("getSubscription", CONNECTION_RESET);
  page.service.respondAlways("streamSubscription", CONNECTION_RESET);
  page.open();
  await screen.findByText("Billing cannot be reached");
  const [shown, text] = [notice(), notice().textContent];
  const changes: MutationRecord[] = [];
  const observer = new MutationObserver((records) => changes.push(...records));
  observer.observe(document.body, { subtree: true, childList: true, characterData: true });

  await expect.poll(() => page.service.requests("getSubscription").length).toBeGreaterThanOrEqual(4);
  observer.disconnect();
  expect(changes).toEqual([]);
  expect(notice()).toBe(shown);
  expect(notice()).toHaveTextContent(text);
});

it("retry button keeps focus, then heading gets it", async () => {
  page.service.respondAlways("getSubscription", problem(503, "unavailable"));
  page.service.respondAlways("streamSubscription", problem(503, "unavailable", 60));
  page.open();
  await page.user.click(await button("Try again"));
  await expect.poll(() => screen.getByRole("button", { name: "Try again" })).toHaveFocus();

  const release = page.service.hold("getSubscription");
  await page.user.click(await button("Try again"));
  expect(await button("Trying…")).toHaveFocus();
  page.service.reset();
  release();
  await screen.findByRole("region", { name: "Free" });
  expect(screen.getByRole("heading", { name: "Billing" })).toHaveFocus();
});

it("error with cached plan appears after several failures", async () => {
  page.service.subscription = pro();
  page.open();
  await screen.findByRole("region", { name: "Pro" });
  await expect.poll(() => page.service.openStreams).toBe(1);
  const requestsBefore = page.service.requests("getSubscription").length;
  page.service.respondAlways("getSubscription", problem(503, "unavailable"));
  page.service.respondAlways("streamSubscription", problem(503, "unavailable"));
  page.service.breakStreams();

  await screen.findByText("Billing is temporarily unavailable");
  expect(page.service.requests("getSubscription").length - requestsBefore).toBeGreaterThan(3);
  expect(screen.getByRole("region", { name: "Pro" })).toBeVisible();
});

it("failed request waits for Retry-After", async () => {
  useFastTime();
  page.service.respondAlways("getSubscription", problem(503, "unavailable", 40));
  page.service.respondAlways("streamSubscription", problem(503, "unavailable", 40));
  page.open();
  await screen.findByText(/You can try again in/);
  await advance(5);
  const requestsBefore = page.service.requests("getSubscription").length;
  const startedAt = Date.now();
  await advanceUntil(() => page.service.requests("getSubscription").length > requestsBefore);

  expect(Date.now() - startedAt).toBeGreaterThanOrEqual(30_000);
  page.service.reset();
  await advance(45);
  expect(await screen.findByRole("region", { name: "Free" })).toBeVisible();
});

it("page loads after sign-in in another tab", async () => {
  page.service.token = "another-token";
  page.open();
  await screen.findByText("You are signed out");
  page.service.token = "good-token";
  act(() => {
    document.dispatchEvent(new Event("visibilitychange"));
  });

  expect(await screen.findByRole("region", { name: "Free" })).toBeVisible();
  expect(screen.queryByRole("alert")).not.toBeInTheDocument();
});

it("error of a click disappears after sign-in in another tab", async () => {
  page.open();
  page.service.respondAlways("createCheckoutSession", problem(401, "not_authenticated"));
  await page.user.click(await button("Upgrade"));
  await screen.findByText("You are signed out");
  act(() => {
    document.dispatchEvent(new Event("visibilitychange"));
  });

  await expect.poll(() => screen.queryByRole("alert")).not.toBeInTheDocument();
});
