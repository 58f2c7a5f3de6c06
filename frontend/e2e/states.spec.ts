import type { Page, Route } from "@playwright/test";

import type { Code, Subscription } from "../src/api/generated";
import { type Answer, problem } from "../test/standIn";
import { ended, ending, free, pro, trialing, withoutAccess } from "../test/subscriptions";
import { expect, test, violations } from "./stage";

/** Everything that the page can look like. Most of it takes Stripe days to bring about, so the API's answers are given. */
interface State {
  name: string;
  /** What the page must say before it is looked at. */
  says: string;
  query?: string;
  /** What the service answers; nothing at all while it is still to come. */
  subscription?: Subscription;
  refusal?: Answer;
  /** What a click is answered with; nothing at all while it is still to come. */
  click?: Answer | "waiting";
}

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

const STATES: State[] = [
  { name: "loading", says: "Loading your plan" },
  { name: "free", says: "You are on the free plan", subscription: free() },
  { name: "activating", says: "Activating your plan", subscription: free(), query: RETURN },
  { name: "activated", says: "Welcome to Pro", subscription: pro(), query: RETURN },
  { name: "checkout-left", says: "You left the checkout", subscription: free(), query: "?checkout=canceled" },
  { name: "pro", says: "Renews on", subscription: pro({ quantity: 5 }) },
  { name: "trialing", says: "Trial ends on", subscription: trialing() },
  { name: "ending", says: "Ends on", subscription: ending() },
  { name: "past-due", says: "did not go through", subscription: pro({ status: "past_due" }) },
  { name: "unpaid", says: "On hold", subscription: withoutAccess("unpaid") },
  { name: "incomplete", says: "Not paid yet", subscription: withoutAccess("incomplete") },
  { name: "paused", says: "Paused", subscription: withoutAccess("paused") },
  { name: "awaiting-payment", says: "Waiting for payment", subscription: withoutAccess("active") },
  { name: "ended", says: "Ended", subscription: ended() },
  { name: "unknown-plan", says: "Enterprise plus", subscription: pro({ plan: "enterprise_plus" }) },
  { name: "unknown-status", says: "On holiday", subscription: withoutAccess("on_holiday") },
  refused(401, "not_authenticated", "You are signed out"),
  refused(403, "not_allowed", "You may not see billing"),
  refused(503, "unavailable", "You can try again in", 60),
  clicked("opening", "Opening…", "waiting"),
  clicked("throttled", "You can try again in", problem(429, "throttled", 60)),
  clicked("conflict", "You have a subscription already", problem(409, "already_subscribed")),
  clicked("stripe-down", "does not answer", problem(502, "stripe_unavailable")),
];

const LOOKS = [
  { scheme: "light", width: 1100 },
  { scheme: "dark", width: 1100 },
  { scheme: "light", width: 320 },
  { scheme: "dark", width: 320 },
] as const;

for (const state of STATES) {
  test(`${state.name} is accessible, light and dark, wide and narrow`, async ({ tenant, context }) => {
    await context.route("**/api/billing/**", (route) => answer(route, state));
    const page = await tenant.open(state.query);
    if (state.click) await page.getByRole("button", { name: "Upgrade" }).click();
    await expect(page.locator("body")).toContainText(state.says);

    for (const { scheme, width } of LOOKS) {
      // A colour that is still fading over to another would be measured on its way.
      await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
      await page.setViewportSize({ width, height: 900 });
      expect(await violations(page), `${scheme}, ${width}`).toEqual([]);
      expect(await overflow(page), "nothing is wider than the window").toBe(0);
      if (process.env.SHOTS)
        await page.screenshot({ path: `${process.env.SHOTS}/${state.name}-${scheme}-${width}.png` });
    }
  });
}

test("motion is calmed for whoever asks for that", async ({ tenant, context }) => {
  await context.route("**/api/billing/**", (route) => answer(route, { name: "loading", says: "" }));
  const page = await tenant.open();
  const blank = page.locator(".billhook-blank").first();
  await expect(blank).toHaveCSS("animation-name", "billhook-breathe");
  await page.emulateMedia({ reducedMotion: "reduce" });
  await expect(blank).toHaveCSS("animation-name", "none");
});

async function answer(route: Route, { subscription, refusal, click }: State): Promise<void> {
  const url = route.request().url();
  if (url.includes("session") && click !== "waiting" && click) return fulfill(route, click);
  if (url.includes("session")) return;
  if (refusal) return fulfill(route, refusal);
  if (url.includes("events") && subscription) return fulfill(route, problem(503, "unavailable", 60));
  if (subscription) return route.fulfill({ json: subscription });
}

function fulfill(route: Route, { status, body, headers }: Answer): Promise<void> {
  return route.fulfill({ status, json: body, ...(headers && { headers }) });
}

/** By how many pixels the page is wider than its window. */
function overflow(page: Page): Promise<number> {
  return page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
}
