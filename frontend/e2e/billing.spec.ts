import type { Page } from "@playwright/test";

import { free } from "../test/subscriptions";
import { expect, test } from "./stage";

declare global {
  interface Window {
    signIn: () => void;
  }
}

const plan = (page: Page, name: string) => page.getByRole("region", { name, exact: true });
const button = (page: Page, name: string) => page.getByRole("button", { name, exact: true });
const alert = (page: Page) => page.getByRole("alert");
/** The notice with all that stands in it; the alert is the part that a screen reader says. */
const notice = (page: Page) => page.locator(".billhook-notice", { has: alert(page) });

test("a free tenant upgrades, pays, turns to Pro without a reload, cancels in the portal, and resumes", async ({
  system,
  tenant,
}) => {
  const page = await tenant.open();
  await expect(plan(page, "Free")).toBeVisible();
  await expect(button(page, "Manage subscription")).toHaveCount(0);

  await button(page, "Upgrade").click();
  await expect(page.getByText("not Stripe")).toBeVisible();
  await system.double("faults", { deliveries: "hold" });
  await button(page, "Pay").click();

  await expect(page.getByText("Activating your plan…")).toBeVisible();
  await expect(button(page, "Upgrade")).toHaveCount(0);
  await page.evaluate(() => Object.assign(window, { isSamePage: true }));
  await system.heal();
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

test("a declined card changes nothing, and the way back says that nothing was charged", async ({ tenant }) => {
  const page = await tenant.open();
  await button(page, "Upgrade").click();
  await button(page, "Pay with a card that is declined").click();
  await expect(alert(page)).toContainText("declined");
  await button(page, "Go back without paying").click();

  await expect(page.getByText("You left the checkout")).toBeVisible();
  await expect(plan(page, "Free")).toBeVisible();
  await expect(button(page, "Upgrade")).toBeVisible();
});

test("a payment that fails is told at once, and the way to mend it is one click", async ({ system, tenant }) => {
  await system.buy(tenant.name);
  const page = await tenant.open();
  await expect(plan(page, "Pro")).toContainText("Active");
  await system.changeSubscription(tenant.name, { card: "declined", renew: true });
  await expect(page.getByText("Your last payment did not go through")).toBeVisible();

  await button(page, "Update payment method").click();
  await expect(page.getByText("not Stripe")).toBeVisible();
  await button(page, "Update payment method").click();
  await expect(page.getByText("The subscription is paid with it.")).toBeVisible();
  await system.changeSubscription(tenant.name, { retry_payment: true });
  await page.goto(`${system.origin}/billing`);
  await expect(plan(page, "Pro")).toContainText("Active");
  await expect(page.getByText("did not go through")).toHaveCount(0);
});

test("a plan that is on hold is back when its open invoice is paid, also after the end", async ({ system, tenant }) => {
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

test("a throttled click is told how long to wait, and works after that", async ({ system, tenant }) => {
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

test("while Stripe is down a click says so with an id to quote, and works when it is up again", async ({
  system,
  tenant,
}) => {
  const page = await tenant.open();
  await expect(button(page, "Upgrade")).toBeVisible();
  await system.double("faults", { match: "*", kind: "status", status: 500, times: 99, should_retry: false });
  await button(page, "Upgrade").click();
  await expect(alert(page)).toContainText("Our payment provider does not answer");
  await expect(notice(page).locator("code")).toHaveText(/^[0-9a-f]{32}$/);

  await system.heal();
  await button(page, "Upgrade").click();
  await expect(button(page, "Pay")).toBeVisible();
});

test("without a network a click says so with an id to quote, and works when there is one again", async ({
  tenant,
  context,
}) => {
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

test("an expired token is replaced without a word", async ({ system, tenant }) => {
  tenant.hasTokens(system.token(tenant.name, -60), system.token(tenant.name));
  const page = await tenant.open();

  await expect(plan(page, "Free")).toBeVisible();
  await expect(alert(page)).toHaveCount(0);
});

test("a user whose tokens are all over is told to sign in, and goes on from there", async ({ system, tenant }) => {
  tenant.hasTokens(system.token(tenant.name, -60));
  const page = await tenant.open();
  await expect(alert(page)).toContainText("You are signed out");

  // With the click and not before it: what is still on its way would mend the page, and there would be nothing to click.
  await page.exposeFunction("signIn", () => tenant.hasTokens(system.token(tenant.name)));
  await page.evaluate(() => window.addEventListener("click", () => window.signIn(), { capture: true }));
  await button(page, "Try again").click();
  await expect(plan(page, "Free")).toBeVisible();
});

test("what is bought in one tab is seen in the other", async ({ tenant }) => {
  const [first, second] = [await tenant.open(), await tenant.open()];
  await expect(plan(second, "Free")).toBeVisible();
  await button(first, "Upgrade").click();
  await button(first, "Pay").click();
  await expect(plan(first, "Pro")).toBeVisible();

  await expect(plan(second, "Pro")).toBeVisible();
  await expect(button(second, "Manage subscription")).toBeVisible();
});

test("a tab that does not know yet what another one has bought is set right by the click", async ({
  system,
  tenant,
}) => {
  const page = await tenant.open();
  await expect(plan(page, "Free")).toBeVisible();
  let isBehind = true;
  await page.route("**/subscription/**", (route, request) => {
    if (!isBehind) return route.fallback();
    return request.url().includes("events") ? route.fulfill({ status: 503 }) : route.fulfill({ json: free() });
  });
  await page.reload();
  await expect(plan(page, "Free")).toBeVisible();
  await system.buy(tenant.name);
  await expect.poll(async () => (await system.call(tenant.name, "create-checkout-session")).status).toBe(409);
  const answered = page.waitForResponse(/create-checkout-session/);
  await button(page, "Upgrade").click();
  isBehind = false;

  expect((await answered).status()).toBe(409);
  await expect(alert(page)).toContainText("You have a subscription already");
  await expect(plan(page, "Pro")).toBeVisible();
});

test("everything can be done with the keyboard", async ({ tenant }) => {
  const page = await tenant.open();
  const upgrade = button(page, "Upgrade");
  await expect(upgrade).toBeVisible();
  for (let presses = 0; presses < 5 && !(await upgrade.evaluate((it) => it === document.activeElement)); presses += 1) {
    await page.keyboard.press("Tab");
  }
  await expect(upgrade).toBeFocused();
  await expect(upgrade).toHaveCSS("outline-style", "solid");
  await page.keyboard.press("Enter");
  await expect(button(page, "Pay")).toBeVisible();
});

test("the way back through the browser's memory leaves no button stuck, and shows what has happened meanwhile", async ({
  system,
  tenant,
}) => {
  const page = await tenant.open();
  await page.evaluate(() =>
    window.addEventListener("pageshow", ({ persisted }) => Object.assign(window, { isRemembered: persisted })),
  );
  await button(page, "Upgrade").click();
  await expect(button(page, "Pay")).toBeVisible();
  await page.goBack({ waitUntil: "commit" });
  await expect(button(page, "Upgrade")).toHaveAttribute("aria-disabled", "false");
  expect(await page.evaluate(() => "isRemembered" in window && window.isRemembered)).toBe(true);

  await button(page, "Upgrade").click();
  await expect(button(page, "Pay")).toBeVisible();
  await system.buy(tenant.name);
  await page.goBack({ waitUntil: "commit" });
  await expect(plan(page, "Pro")).toBeVisible();
});

test("a webhook that never comes is not needed: the page has Stripe asked", async ({ system, tenant }) => {
  const page = await tenant.open();
  await system.double("faults", { deliveries: "drop" });
  await button(page, "Upgrade").click();
  await button(page, "Pay").click();

  await expect(page.getByText("Activating your plan…")).toBeVisible();
  await expect(page.getByText("Welcome to Pro")).toBeVisible({ timeout: 20_000 });
});

test("the page turns with the webhook, over the stream alone", async ({ system, tenant }) => {
  const page = await tenant.open();
  await expect(plan(page, "Free")).toBeVisible();
  const asked: string[] = [];
  page.on("request", (request) => asked.push(request.url()));
  await system.buy(tenant.name);

  await expect(plan(page, "Pro")).toBeVisible();
  expect(asked).toEqual([]);
});
