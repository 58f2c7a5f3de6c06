import type { BrowserContext, Page, Route } from "@playwright/test";

import type { Code, Subscription } from "../src/api/generated";
import { type FakeResponse, problem } from "../test/fakeService";
import { ended, ending, free, pro, trialing, withoutAccess } from "../test/subscriptions";
import { expectAccessibleInAllLayouts } from "./layouts";
import { expect, type Tenant, test } from "./fixtures";

/** A state of the page. The API's responses are mocked, because many states take days at Stripe. */
interface State {
  name: string;
  /** Text that the page must show before the check. */
  text: string;
  query?: string;
  /** The subscription that the service returns. Without it and `error`, requests stay pending. */
  subscription?: Subscription;
  error?: FakeResponse | "connection reset";
  /** The response to a checkout refresh. The test advances the clock until it is requested. */
  refresh?: FakeResponse;
  /** The response to a click on Upgrade. */
  click?: FakeResponse | "pending";
}

/** Longer than a narrow window, without a place to break. */
const LONG_PLAN =
  "enterprise_for_the_DonaudampfschifffahrtselektrizitaetenhauptbetriebswerkbauunterbeamtenGesellschaft";

const RETURN = "?checkout=success&session_id=cs_test_1";

const loadError = (status: number, code: Code, text: string, retryAfterSeconds?: number): State => ({
  name: code,
  text,
  error: problem(status, code, retryAfterSeconds),
});
const clicked = (name: string, text: string, click: State["click"]): State => ({
  name: `click-${name}`,
  text,
  subscription: free(),
  click,
});

function refreshed(refresh: FakeResponse): Pick<State, "subscription" | "refresh"> {
  return { subscription: free(), refresh };
}

const STATES: State[] = [
  { name: "loading", text: "Loading your plan" },
  { name: "free", text: "You are on the free plan", subscription: free() },
  { name: "activating", text: "Activating your plan", subscription: free(), query: RETURN },
  { name: "activated", text: "Welcome to Pro", subscription: pro(), query: RETURN },
  { name: "slow", text: "takes longer than usual", query: RETURN, ...refreshed(problem(502, "stripe_unavailable")) },
  { name: "unconfirmed", text: "We found no payment", query: RETURN, ...refreshed({ status: 200, body: free() }) },
  { name: "unknown-checkout", text: "could not find", query: RETURN, ...refreshed(problem(404, "not_found")) },
  { name: "checkout-left", text: "You left the checkout", subscription: free(), query: "?checkout=canceled" },
  { name: "pro", text: "Renews on", subscription: pro({ quantity: 5 }) },
  { name: "trialing", text: "Trial ends on", subscription: trialing() },
  { name: "ending", text: "Ends on", subscription: ending() },
  { name: "ending-later", text: "Ends on", subscription: ending({ cancel_at: "2027-03-23T09:00:00Z" }) },
  { name: "past-due", text: "last payment failed", subscription: pro({ status: "past_due" }) },
  { name: "past-due-on-hold", text: "on hold", subscription: withoutAccess("past_due") },
  { name: "unpaid", text: "On hold", subscription: withoutAccess("unpaid") },
  { name: "incomplete", text: "Not paid yet", subscription: withoutAccess("incomplete") },
  { name: "paused", text: "Paused", subscription: withoutAccess("paused") },
  { name: "awaiting-payment", text: "Waiting for payment", subscription: withoutAccess("active") },
  { name: "ended", text: "Ended", subscription: ended() },
  { name: "long-plan", text: "Gesellschaft", subscription: pro({ plan: LONG_PLAN, quantity: 1200 }) },
  { name: "unknown-status", text: "On holiday", subscription: withoutAccess("on_holiday") },
  loadError(401, "not_authenticated", "You are signed out"),
  loadError(403, "not_allowed", "You do not have access to billing"),
  loadError(503, "unavailable", "You can try again in", 60),
  { name: "unreachable", text: "cannot be reached", error: "connection reset" },
  clicked("opening", "Opening…", "pending"),
  clicked("throttled", "You can try again in", problem(429, "throttled", 60)),
  clicked("conflict", "You already have a subscription", problem(409, "already_subscribed")),
  clicked("stripe-down", "is not responding", problem(502, "stripe_unavailable")),
  clicked("stripe-refused", "Our payment provider rejected the request", problem(502, "stripe_rejected")),
  clicked("not-configured", "not set up yet", problem(503, "billing_not_configured")),
  clicked("broken", "Something went wrong", problem(500, "internal")),
];

for (const state of STATES) {
  test(`${state.name} is accessible in all layouts`, async ({ tenant, context }) => {
    const page = await openState(state, tenant, context);

    await expectAccessibleInAllLayouts(page, state.name);
  });
}

test.describe("with a German browser in Kiribati", () => {
  test.use({ locale: "de-DE", timezoneId: "Pacific/Kiritimati" });

  test("dates are in the browser's language and time zone", async ({ tenant, context }) => {
    const subscription = pro({ current_period_end: "2026-12-23T12:00:00Z" });
    const page = await openState({ name: "pro", text: "Renews on", subscription }, tenant, context);
    const date = page.locator("time");

    await expect(date).toHaveText("24. Dezember 2026");
    await expect(date).toHaveAttribute("datetime", "2026-12-23T12:00:00Z");
    await expect(date).toHaveAttribute("lang", /^de/);
    await expect(date).toHaveAttribute("title", /Donnerstag, 24\. Dezember 2026 um 02:00:00/);
  });
});

test("reduced motion stops the placeholder animation", async ({ tenant, context }) => {
  await context.route("**/api/billing/**", (route) => respond(route, { name: "loading", text: "" }));
  const page = await tenant.open();
  const placeholder = page.locator(".billhook-placeholder").first();
  await expect(placeholder).toHaveCSS("animation-name", "billhook-pulse");
  await page.emulateMedia({ reducedMotion: "reduce" });
  await expect(placeholder).toHaveCSS("animation-name", "none");
});

async function openState(state: State, tenant: Tenant, context: BrowserContext): Promise<Page> {
  await context.route("**/api/billing/**", (route) => respond(route, state));
  if (state.refresh) await context.clock.install();
  const page = await tenant.open(state.query);
  const body = page.locator("body");
  if (state.click) await page.getByRole("button", { name: "Upgrade" }).click();
  if (state.refresh) {
    await expect(body).toContainText("Activating your plan");
    await expect(async () => {
      await page.clock.fastForward(30_000);
      await expect(body).toContainText(state.text, { timeout: 200 });
    }).toPass();
  }
  await expect(body).toContainText(state.text);
  return page;
}

async function respond(route: Route, { subscription, error, refresh, click }: State): Promise<void> {
  const url = route.request().url();
  if (url.includes("/refresh/")) return refresh && fulfill(route, refresh);
  if (url.includes("session") && click !== "pending" && click) return fulfill(route, click);
  if (url.includes("session")) return;
  if (error === "connection reset") return route.abort();
  if (error) return fulfill(route, error);
  if (url.includes("events") && subscription) return fulfill(route, problem(503, "unavailable", 60));
  if (subscription) return route.fulfill({ json: subscription });
}

function fulfill(route: Route, { status, body, headers }: FakeResponse): Promise<void> {
  return route.fulfill({ status, json: body, ...(headers && { headers }) });
}
