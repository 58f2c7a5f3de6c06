import type { BrowserContext, Page, Route } from "@playwright/test";

import type { Code, Subscription } from "../src/api/generated";
import { type Answer, problem } from "../test/standIn";
import { ended, ending, free, pro, trialing, withoutAccess } from "../test/subscriptions";
import { holdsInEveryLook } from "./looks";
import { expect, type Tenant, test } from "./stage";

/** Everything that the page can look like. Most of it takes Stripe days to bring about, so the API's answers are given. */
interface State {
  name: string;
  /** What the page must say before it is looked at. */
  says: string;
  query?: string;
  /** What the service answers; nothing at all while it is still to come. */
  subscription?: Subscription;
  refusal?: Answer | "broken off";
  /** What is answered about the checkout, when time passes until somebody asks. */
  refresh?: Answer;
  /** What a click is answered with; nothing at all while it is still to come. */
  click?: Answer | "waiting";
}

/** Longer than a narrow window, and without a place to break it. */
const LONG_PLAN =
  "enterprise_for_the_DonaudampfschifffahrtselektrizitaetenhauptbetriebswerkbauunterbeamtenGesellschaft";

const RETURN = "?checkout=success&session_id=cs_test_1";

const refused = (status: number, code: Code, says: string, retryAfterSeconds?: number): State => ({
  name: code,
  says,
  refusal: problem(status, code, retryAfterSeconds),
});
const clicked = (name: string, says: string, click: State["click"]): State => ({
  name: `click-${name}`,
  says,
  subscription: free(),
  click,
});

/** Time passes, and this is what asking about the checkout comes to. */
function later(refresh: Answer): Pick<State, "subscription" | "refresh"> {
  return { subscription: free(), refresh };
}

const STATES: State[] = [
  { name: "loading", says: "Loading your plan" },
  { name: "free", says: "You are on the free plan", subscription: free() },
  { name: "activating", says: "Activating your plan", subscription: free(), query: RETURN },
  { name: "activated", says: "Welcome to Pro", subscription: pro(), query: RETURN },
  { name: "slow", says: "takes longer than usual", query: RETURN, ...later(problem(502, "stripe_unavailable")) },
  { name: "unconfirmed", says: "We found no payment", query: RETURN, ...later({ status: 200, body: free() }) },
  { name: "unknown-checkout", says: "do not know", query: RETURN, ...later(problem(404, "not_found")) },
  { name: "checkout-left", says: "You left the checkout", subscription: free(), query: "?checkout=canceled" },
  { name: "pro", says: "Renews on", subscription: pro({ quantity: 5 }) },
  { name: "trialing", says: "Trial ends on", subscription: trialing() },
  { name: "ending", says: "Ends on", subscription: ending() },
  { name: "ending-later", says: "Ends on", subscription: ending({ cancel_at: "2027-03-23T09:00:00Z" }) },
  { name: "past-due", says: "did not go through", subscription: pro({ status: "past_due" }) },
  { name: "past-due-on-hold", says: "on hold", subscription: withoutAccess("past_due") },
  { name: "unpaid", says: "On hold", subscription: withoutAccess("unpaid") },
  { name: "incomplete", says: "Not paid yet", subscription: withoutAccess("incomplete") },
  { name: "paused", says: "Paused", subscription: withoutAccess("paused") },
  { name: "awaiting-payment", says: "Waiting for payment", subscription: withoutAccess("active") },
  { name: "ended", says: "Ended", subscription: ended() },
  { name: "long-plan", says: "Gesellschaft", subscription: pro({ plan: LONG_PLAN, quantity: 1200 }) },
  { name: "unknown-status", says: "On holiday", subscription: withoutAccess("on_holiday") },
  refused(401, "not_authenticated", "You are signed out"),
  refused(403, "not_allowed", "You may not see billing"),
  refused(503, "unavailable", "You can try again in", 60),
  { name: "unreachable", says: "cannot be reached", refusal: "broken off" },
  clicked("opening", "Opening…", "waiting"),
  clicked("throttled", "You can try again in", problem(429, "throttled", 60)),
  clicked("conflict", "You have a subscription already", problem(409, "already_subscribed")),
  clicked("stripe-down", "does not answer", problem(502, "stripe_unavailable")),
  clicked("stripe-refused", "Our payment provider refused", problem(502, "stripe_rejected")),
  clicked("not-configured", "not set up yet", problem(503, "billing_not_configured")),
  clicked("broken", "Something went wrong", problem(500, "internal")),
];

for (const state of STATES) {
  test(`${state.name} is accessible, light and dark, wide and narrow, and in large letters`, async ({
    tenant,
    context,
  }) => {
    const page = await bringAbout(state, tenant, context);

    await holdsInEveryLook(page, state.name);
  });
}

test.describe("for a reader of German, on the other side of the date line", () => {
  test.use({ locale: "de-DE", timezoneId: "Pacific/Kiritimati" });

  test("dates are in the browser's language and time zone", async ({ tenant, context }) => {
    const subscription = pro({ current_period_end: "2026-12-23T12:00:00Z" });
    const page = await bringAbout({ name: "pro", says: "Renews on", subscription }, tenant, context);
    const date = page.locator("time");

    await expect(date).toHaveText("24. Dezember 2026");
    await expect(date).toHaveAttribute("datetime", "2026-12-23T12:00:00Z");
    await expect(date).toHaveAttribute("lang", /^de/);
    await expect(date).toHaveAttribute("title", /Donnerstag, 24\. Dezember 2026 um 02:00:00/);
  });
});

test("motion is calmed for whoever asks for that", async ({ tenant, context }) => {
  await context.route("**/api/billing/**", (route) => answer(route, { name: "loading", says: "" }));
  const page = await tenant.open();
  const blank = page.locator(".billhook-blank").first();
  await expect(blank).toHaveCSS("animation-name", "billhook-breathe");
  await page.emulateMedia({ reducedMotion: "reduce" });
  await expect(blank).toHaveCSS("animation-name", "none");
});

async function bringAbout(state: State, tenant: Tenant, context: BrowserContext): Promise<Page> {
  await context.route("**/api/billing/**", (route) => answer(route, state));
  if (state.refresh) await context.clock.install();
  const page = await tenant.open(state.query);
  const said = expect(page.locator("body"));
  if (state.click) await page.getByRole("button", { name: "Upgrade" }).click();
  if (state.refresh) {
    await said.toContainText("Activating your plan");
    await expect(async () => {
      await page.clock.fastForward(30_000);
      await expect(page.locator("body")).toContainText(state.says, { timeout: 200 });
    }).toPass();
  }
  await said.toContainText(state.says);
  return page;
}

async function answer(route: Route, { subscription, refusal, refresh, click }: State): Promise<void> {
  const url = route.request().url();
  if (url.includes("/refresh/")) return refresh && fulfill(route, refresh);
  if (url.includes("session") && click !== "waiting" && click) return fulfill(route, click);
  if (url.includes("session")) return;
  if (refusal === "broken off") return route.abort();
  if (refusal) return fulfill(route, refusal);
  if (url.includes("events") && subscription) return fulfill(route, problem(503, "unavailable", 60));
  if (subscription) return route.fulfill({ json: subscription });
}

function fulfill(route: Route, { status, body, headers }: Answer): Promise<void> {
  return route.fulfill({ status, json: body, ...(headers && { headers }) });
}
