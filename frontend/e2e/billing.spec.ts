import type { Page } from "@playwright/test";

import { free } from "../test/subscriptions";
import { expect, test } from "./fixtures";

declare global {
  interface Window {
    signIn: () => void;
  }
}

const plan = (page: Page, name: string) => page.getByRole("region", { name, exact: true });
const button = (page: Page, name: string) => page.getByRole("button", { name, exact: true });
const alert = (page: Page) => page.getByRole("alert");
/** The whole notice. Its alert is the part that screen readers announce. */
const notice = (page: Page) => page.locator(".billhook-notice", { has: alert(page) });

test("free tenant upgrades without reload, cancels and resumes", async ({ system, tenant }) => {
  const page = await tenant.open();
  await expect(plan(page, "Free")).toBeVisible();
  await expect(button(page, "Manage subscription")).toHaveCount(0);

  await button(page, "Upgrade").click();
  await expect(page.getByText("not Stripe")).toBeVisible();
  await system.control("faults", { deliveries: "hold" });
  await button(page, "Pay").click();

  await expect(page.getByText("Activating your plan…")).toBeVisible();
  await expect(button(page, "Upgrade")).toHaveCount(0);
  await page.evaluate(() => Object.assign(window, { isSamePage: true }));
  await system.clearFaults();
  await expect(page.getByText("Welcome to Pro")).toBeVisible();
  await expect(plan(page, "Pro")).toContainText("Renews on");
  expect(await page.evaluate(() => "isSamePage" in window)).toBe(true);
  expect(page.url()).not.toContain("checkout");

  await button(page, "Manage subscription").click();
  await button(page, "Cancel subscription").click();
  await page.getByRole("link", { name: /return/i }).click();
  await expect(plan(page, "Pro")).toContainText("Canceled");
  const end = page.locator("time");
  await expect(end).toHaveText(/^[A-Z][a-z]+ \d{1,2}, 20\d\d$/);

  await button(page, "Manage subscription").click();
  await button(page, "Resume subscription").click();
  await page.getByRole("link", { name: /return/i }).click();
  await expect(plan(page, "Pro")).toContainText("Active");
});

test("declined card keeps free plan and return says not charged", async ({ tenant }) => {
  const page = await tenant.open();
  await button(page, "Upgrade").click();
  await button(page, "Pay with a declined card").click();
  await expect(alert(page)).toContainText("declined");
  await button(page, "Go back without paying").click();

  await expect(page.getByText("You left the checkout")).toBeVisible();
  await expect(plan(page, "Free")).toBeVisible();
  await expect(button(page, "Upgrade")).toBeVisible();
});

test("failed payment is shown and fixed with a new card", async ({ system, tenant }) => {
  await system.buy(tenant.name);
  const page = await tenant.open();
  await expect(plan(page, "Pro")).toContainText("Active");
  await system.changeSubscription(tenant.name, { card: "declined", renew: true });
  await expect(page.getByText("Your last payment failed")).toBeVisible();

  await button(page, "Update payment method").click();
  await expect(page.getByText("not Stripe")).toBeVisible();
  await button(page, "Update payment method").click();
  await expect(page.getByText("It now pays for this subscription.")).toBeVisible();
  await system.changeSubscription(tenant.name, { retry_payment: true });
  await page.goto(`${system.origin}/billing`);
  await expect(plan(page, "Pro")).toContainText("Active");
  await expect(page.getByText("payment failed")).toHaveCount(0);
});

test("open invoice can be paid on hold and after the end", async ({ system, tenant }) => {
  await system.buy(tenant.name);
  const page = await tenant.open();
  await expect(plan(page, "Pro")).toContainText("Active");
  await system.changeSubscription(tenant.name, { card: "declined", renew: true });
  await system.changeSubscription(tenant.name, { status: "unpaid" });
  await button(page, "Pay open invoice").click();
  await button(page, "Pay").click();
  await page.goto(`${system.origin}/billing`);
  await expect(plan(page, "Pro")).toContainText("Active");

  await system.changeSubscription(tenant.name, { renew: true });
  await system.changeSubscription(tenant.name, { status: "canceled" });
  await expect(button(page, "Upgrade")).toBeVisible();
  await button(page, "Manage subscription").click();
  await page.getByRole("link", { name: /pay \$29\.00/ }).click();
  await button(page, "Pay").click();
  await expect(button(page, "Pay")).toHaveCount(0);
});

test("throttled click shows the wait and works afterwards", async ({ system, tenant }) => {
  const page = await tenant.open();
  await expect(button(page, "Upgrade")).toBeVisible();
  let status = 0;
  while (status !== 429) ({ status } = await system.call(tenant.name, "create-portal-session"));

  await button(page, "Upgrade").click();
  await expect(notice(page)).toContainText(/You can try again in \d+ seconds?/);
  await expect(button(page, "Upgrade")).toHaveAttribute("aria-disabled", "true");
  await expect(alert(page)).toContainText("You can try again now.");
  await button(page, "Upgrade").click();
  await expect(button(page, "Pay")).toBeVisible();
});

test("click during Stripe outage shows trace id, works later", async ({ system, tenant }) => {
  const page = await tenant.open();
  await expect(button(page, "Upgrade")).toBeVisible();
  await system.control("faults", { match: "*", kind: "status", status: 500, times: 99, should_retry: false });
  await button(page, "Upgrade").click();
  await expect(alert(page)).toContainText("Our payment provider is not responding");
  await expect(notice(page).locator("code")).toHaveText(/^[0-9a-f]{32}$/);

  await system.clearFaults();
  await button(page, "Upgrade").click();
  await expect(button(page, "Pay")).toBeVisible();
});

test("click while offline shows trace id, works later", async ({ tenant, context }) => {
  const page = await tenant.open();
  await expect(button(page, "Upgrade")).toBeVisible();
  await context.setOffline(true);
  await button(page, "Upgrade").click();
  await expect(alert(page)).toContainText("Billing cannot be reached");
  await expect(notice(page).locator("code")).toHaveText(/^[0-9a-f]{32}$/);

  await context.setOffline(false);
  await button(page, "Upgrade").click();
  await expect(button(page, "Pay")).toBeVisible();
});

test("expired token is renewed without a notice", async ({ system, tenant }) => {
  tenant.hasTokens(system.token(tenant.name, -60), system.token(tenant.name));
  const page = await tenant.open();

  await expect(plan(page, "Free")).toBeVisible();
  await expect(alert(page)).toHaveCount(0);
});

test("user without valid token signs in and continues", async ({ system, tenant }) => {
  tenant.hasTokens(system.token(tenant.name, -60));
  const page = await tenant.open();
  await expect(alert(page)).toContainText("You are signed out");

  // The click itself signs in: with an earlier sign-in, a pending request could load the page and
  // remove the button.
  await page.exposeFunction("signIn", () => tenant.hasTokens(system.token(tenant.name)));
  await page.evaluate(() => window.addEventListener("click", () => window.signIn(), { capture: true }));
  await button(page, "Try again").click();
  await expect(plan(page, "Free")).toBeVisible();
});

test("purchase in one tab appears in the other", async ({ tenant }) => {
  const [first, second] = [await tenant.open(), await tenant.open()];
  await expect(plan(second, "Free")).toBeVisible();
  await button(first, "Upgrade").click();
  await button(first, "Pay").click();
  await expect(plan(first, "Pro")).toBeVisible();

  await expect(plan(second, "Pro")).toBeVisible();
  await expect(button(second, "Manage subscription")).toBeVisible();
});

test("click in outdated tab shows conflict and current plan", async ({ system, tenant }) => {
  const page = await tenant.open();
  await expect(plan(page, "Free")).toBeVisible();
  let isOutdated = true;
  await page.route("**/subscription/**", (route, request) => {
    if (!isOutdated) return route.fallback();
    return request.url().includes("events") ? route.fulfill({ status: 503 }) : route.fulfill({ json: free() });
  });
  await page.reload();
  await expect(plan(page, "Free")).toBeVisible();
  await system.buy(tenant.name);
  await expect.poll(async () => (await system.call(tenant.name, "create-checkout-session")).status).toBe(409);
  const response = page.waitForResponse(/create-checkout-session/);
  await button(page, "Upgrade").click();
  isOutdated = false;

  expect((await response).status()).toBe(409);
  await expect(alert(page)).toContainText("You already have a subscription");
  await expect(plan(page, "Pro")).toBeVisible();
});

test("upgrade works with the keyboard", async ({ tenant }) => {
  const page = await tenant.open();
  const upgrade = button(page, "Upgrade");
  await expect(upgrade).toBeVisible();
  for (let presses = 0; presses < 5 && !(await upgrade.evaluate((element) => element.matches(":focus"))); presses += 1) {
    await page.keyboard.press("Tab");
  }
  await expect(upgrade).toBeFocused();
  await expect(upgrade).toHaveCSS("outline-style", "solid");
  await page.keyboard.press("Enter");
  await expect(button(page, "Pay")).toBeVisible();
});

test("restore from back/forward cache unblocks and updates", async ({ system, tenant }) => {
  const page = await tenant.open();
  await page.evaluate(() =>
    window.addEventListener("pageshow", ({ persisted }) => Object.assign(window, { isRestored: persisted })),
  );
  await button(page, "Upgrade").click();
  await expect(button(page, "Pay")).toBeVisible();
  await page.goBack({ waitUntil: "commit" });
  await expect(button(page, "Upgrade")).toHaveAttribute("aria-disabled", "false");
  expect(await page.evaluate(() => "isRestored" in window && window.isRestored)).toBe(true);

  await button(page, "Upgrade").click();
  await expect(button(page, "Pay")).toBeVisible();
  await system.buy(tenant.name);
  await page.goBack({ waitUntil: "commit" });
  await expect(plan(page, "Pro")).toBeVisible();
});

test("lost webhook is replaced by a checkout refresh", async ({ system, tenant }) => {
  const page = await tenant.open();
  await system.control("faults", { deliveries: "drop" });
  await button(page, "Upgrade").click();
  await button(page, "Pay").click();

  await expect(page.getByText("Activating your plan…")).toBeVisible();
  await expect(page.getByText("Welcome to Pro")).toBeVisible({ timeout: 20_000 });
});

test("webhook updates the page over the stream alone", async ({ system, tenant }) => {
  const page = await tenant.open();
  await expect(plan(page, "Free")).toBeVisible();
  const requests: string[] = [];
  page.on("request", (request) => requests.push(request.url()));
  await system.buy(tenant.name);

  await expect(plan(page, "Pro")).toBeVisible();
  expect(requests).toEqual([]);
});
