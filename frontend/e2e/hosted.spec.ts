import type { Page } from "@playwright/test";

import { expectAccessibleInAllLayouts } from "./layouts";
import { expect, test } from "./fixtures";
import type { System } from "./system";

// The hosted pages of the double, which replace Stripe's.

const APPLICATION = "https://application.example";
const LONG_NAME = `${"Landesverband der Landwirtschaftsgenossenschaften".repeat(2)} & <Söhne>`;

const button = (page: Page, name: string) => page.getByRole("button", { name, exact: true });

type Parameters = Record<string, string>;

async function createCustomer(system: System, name = "Acme"): Promise<string> {
  return (await system.stripe<{ id: string }>("customers", { name })).id;
}

/** Creates an open checkout session, for a new customer unless one is given. */
function createCheckout(system: System, more: Parameters = {}): Promise<{ id: string; url: string }> {
  return system.stripe("checkout/sessions", {
    mode: "subscription",
    "line_items[0][price]": "price_pro_monthly",
    "line_items[0][quantity]": "1",
    success_url: `${APPLICATION}/done`,
    cancel_url: `${APPLICATION}/plans`,
    ...more,
  });
}

/** Creates a paid subscription and returns its id. */
async function createSubscription(system: System, customer: string, more: Parameters = {}): Promise<string> {
  const { id } = await createCheckout(system, { customer, ...more });
  await system.control(`checkout/${id}/pay`, { card: "ok" });
  return (await system.stripe<{ subscription: string }>(`checkout/sessions/${id}`)).subscription;
}

async function portalUrl(system: System, customer: string, more: Parameters = {}): Promise<string> {
  const parameters = { customer, return_url: `${APPLICATION}/billing`, ...more };
  return (await system.stripe<{ url: string }>("billing_portal/sessions", parameters)).url;
}

/** The portal of a Pro customer with a flow, which offers one action. */
async function flowUrl(system: System, type: string): Promise<string> {
  const customer = await createCustomer(system);
  const id = await createSubscription(system, customer);
  const details = type === "payment_method_update" ? {} : { [`flow_data[${type}][subscription]`]: id };
  return portalUrl(system, customer, { "flow_data[type]": type, ...details });
}

/** A state of the hosted pages. */
interface State {
  name: string;
  heading: string;
  /** Text that only this state of the page has. */
  text: string;
  /** Creates the state and returns the page's URL. */
  url: (system: System) => Promise<string>;
  /** The button that is clicked first. */
  click?: string;
}

const proPortal = async (system: System) => portalUrl(system, await createProCustomer(system));
async function createProCustomer(system: System): Promise<string> {
  const customer = await createCustomer(system);
  await createSubscription(system, customer);
  return customer;
}

/** Creates a customer whose renewal was declined, and returns the URL of the open invoice. */
async function createPastDueCustomer(system: System): Promise<{ customer: string; invoice: string }> {
  const customer = await createCustomer(system);
  const id = await createSubscription(system, customer);
  await system.control(`subscriptions/${id}`, { card: "declined", renew: true });
  const { latest_invoice } = await system.stripe<{ latest_invoice: string }>(`subscriptions/${id}`);
  const { hosted_invoice_url } = await system.stripe<{ hosted_invoice_url: string }>(`invoices/${latest_invoice}`);
  return { customer, invoice: hosted_invoice_url };
}

const STATES: State[] = [
  {
    name: "checkout",
    heading: "Checkout",
    text: "Pro, $29.00 a month",
    url: async (system) => (await createCheckout(system, { customer: await createCustomer(system) })).url,
  },
  {
    name: "checkout-long",
    heading: "Checkout",
    text: "14 days",
    url: async (system) => {
      const more = {
        customer: await createCustomer(system, LONG_NAME),
        "line_items[0][quantity]": "12000",
        "line_items[1][price]": "price_team_monthly",
        "line_items[1][quantity]": "3",
        "subscription_data[trial_period_days]": "14",
      };
      return (await createCheckout(system, more)).url;
    },
  },
  {
    name: "checkout-declined",
    heading: "Checkout",
    text: "The card was declined",
    url: async (system) => (await createCheckout(system)).url,
    click: "Pay with a declined card",
  },
  {
    name: "checkout-complete",
    heading: "This checkout is complete",
    text: "Continue to the application",
    url: async (system) => {
      const { id, url } = await createCheckout(system);
      await system.control(`checkout/${id}/pay`, { card: "ok" });
      return url;
    },
  },
  {
    name: "checkout-expired",
    heading: "This checkout has expired",
    text: "Return to the application",
    url: async (system) => {
      const { id, url } = await createCheckout(system);
      await system.stripe(`checkout/sessions/${id}/expire`, {});
      return url;
    },
  },
  {
    name: "checkout-unknown",
    heading: "Checkout not found",
    text: "loses all data when it stops",
    url: (system) => Promise.resolve(`${system.doubleOrigin}/c/pay/cs_test_none`),
  },
  { name: "portal", heading: "Your subscription", text: "Renews on", url: proPortal },
  {
    name: "portal-canceled",
    heading: "Your subscription",
    text: "The subscription was canceled",
    url: proPortal,
    click: "Cancel subscription",
  },
  {
    name: "portal-changed",
    heading: "Your subscription",
    text: "The plan was changed",
    url: proPortal,
    click: "Change plan",
  },
  { name: "portal-card", heading: "Your subscription", text: "The card was updated", url: proPortal, click: "Update card" },
  {
    name: "portal-many",
    heading: "Your subscriptions",
    text: "Ended on",
    url: async (system) => {
      const customer = await createCustomer(system, LONG_NAME);
      const ended = await createSubscription(system, customer);
      await system.control(`subscriptions/${ended}`, { status: "canceled" });
      const pastDue = await createSubscription(system, customer, { "line_items[0][quantity]": "12" });
      await system.control(`subscriptions/${pastDue}`, { status: "past_due" });
      await createSubscription(system, customer, { "subscription_data[trial_period_days]": "14" });
      return portalUrl(system, customer);
    },
  },
  {
    name: "portal-empty",
    heading: "Your subscription",
    text: "There is no subscription",
    url: async (system) => portalUrl(system, await createCustomer(system)),
  },
  {
    name: "portal-flow-cancel",
    heading: "Cancel your subscription",
    text: "If you cancel, it ends on",
    url: (system) => flowUrl(system, "subscription_cancel"),
  },
  {
    name: "portal-flow-plan",
    heading: "Change your plan",
    text: "New plan",
    url: (system) => flowUrl(system, "subscription_update"),
  },
  {
    name: "portal-flow-card",
    heading: "Update your card",
    text: "No real card is used",
    url: (system) => flowUrl(system, "payment_method_update"),
  },
  {
    name: "portal-unknown",
    heading: "Portal session not found",
    text: "Open the portal again from the application",
    url: (system) => Promise.resolve(`${system.doubleOrigin}/p/session/test_none`),
  },
  {
    name: "portal-owing",
    heading: "Your subscription",
    text: "Open invoices",
    url: async (system) => portalUrl(system, (await createPastDueCustomer(system)).customer),
  },
  {
    name: "invoice",
    heading: "Invoice",
    text: "Invoice details",
    url: async (system) => (await createPastDueCustomer(system)).invoice,
  },
  {
    name: "invoice-declined",
    heading: "Invoice",
    text: "The card was declined",
    url: async (system) => (await createPastDueCustomer(system)).invoice,
    click: "Pay with a declined card",
  },
  {
    name: "invoice-unknown",
    heading: "Invoice not found",
    text: "Open the invoice again",
    url: (system) => Promise.resolve(`${system.doubleOrigin}/i/acct_1/test_none`),
  },
  {
    name: "no-page",
    heading: "Page not found",
    text: "Open them from the application",
    url: (system) => Promise.resolve(system.doubleOrigin),
  },
];

for (const { name, heading, text, url, click } of STATES) {
  test(`double ${name} is accessible and not Stripe's in all layouts`, async ({ system, page }) => {
    await page.goto(await url(system));
    if (click) await button(page, click).click();
    await expect(page.getByRole("heading", { level: 1, name: heading, exact: true })).toBeVisible();
    await expect(page.getByRole("main")).toContainText(text);
    await expect(page.getByRole("banner")).toHaveText("This is Billhook's sandbox, not Stripe. No money moves.");
    await expect(page).toHaveTitle(`${click ? `${text} · ` : ""}${heading} · Billhook's sandbox, not Stripe`);

    await expectAccessibleInAllLayouts(page, `double-${name}`);
  });
}

test("cancel of ended subscription shows error and back link", async ({ system, page }) => {
  const customer = await createCustomer(system);
  const id = await createSubscription(system, customer);
  await page.goto(await portalUrl(system, customer));
  await system.control(`subscriptions/${id}`, { status: "canceled" });
  await button(page, "Cancel subscription").click();

  await expect(page.getByRole("heading", { name: "This action is not available" })).toBeVisible();
  await expectAccessibleInAllLayouts(page, "double-not-available");
  await page.getByRole("link", { name: "Back to the portal" }).click();
  await expect(page.getByRole("region", { name: "Pro" })).toContainText("Ended on");
});

test("each of several cancel buttons describes its subscription", async ({ system, page }) => {
  const customer = await createProCustomer(system);
  await createSubscription(system, customer, { "line_items[0][price]": "price_team_monthly" });
  await page.goto(await portalUrl(system, customer));

  const cancel = button(page, "Cancel subscription");
  await expect(cancel).toHaveCount(2);
  await expect(cancel.first()).toHaveAccessibleDescription(/^Pro \(1 of 2\) If you cancel, it ends on /);
  await expect(cancel.last()).toHaveAccessibleDescription(/^Team \(2 of 2\) If you cancel, it ends on /);
  await cancel.last().click();
  await expect(page.getByRole("region", { name: "Pro" })).toContainText("Renews on");
  await expect(page.getByRole("region", { name: "Team" })).toContainText("Ends on");
});

test.describe("without scripts and mouse", () => {
  test.use({ javaScriptEnabled: false });

  test("declined notice has focus and the next Tab reaches Pay", async ({ system, page }) => {
    await page.goto((await createCheckout(system)).url);
    await tabTo(page, "Pay with a declined card");
    await page.keyboard.press("Enter");
    await expect(page.getByRole("alert", { name: "The card was declined" })).toBeFocused();

    await page.keyboard.press("Tab");
    await expect(button(page, "Pay")).toBeFocused();
    await expect(button(page, "Pay")).toHaveCSS("outline-style", "solid");
  });

  test("portal changes plan, cancels and resumes", async ({ system, page }) => {
    await page.goto(await proPortal(system));
    await tabTo(page, "Change plan");
    await page.keyboard.press("Shift+Tab");
    await expect(page.getByRole("combobox", { name: "New plan" })).toBeFocused();
    await page.keyboard.type("Team");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await expect(page.getByRole("status", { name: "The plan was changed" })).toBeFocused();
    await expect(page.getByRole("region", { name: "Team" })).toContainText("$99.00 a month");

    await tabTo(page, "Cancel subscription");
    await page.keyboard.press("Enter");
    await expect(page.getByRole("status", { name: "The subscription was canceled" })).toBeFocused();
    await expect(page.getByRole("region", { name: "Team" })).toContainText("Ends on");

    await tabTo(page, "Resume subscription");
    await page.keyboard.press("Enter");
    await expect(page.getByRole("status", { name: "The subscription was resumed" })).toBeFocused();
    await expect(page.getByRole("region", { name: "Team" })).toContainText("Renews on");
  });
});

/** Presses Tab until the button has the focus, at most 12 times. */
async function tabTo(page: Page, name: string): Promise<void> {
  const target = button(page, name);
  await expect(target).toBeVisible();
  for (let presses = 0; presses < 12 && !(await target.evaluate((element) => element.matches(":focus"))); presses += 1) {
    await page.keyboard.press("Tab");
  }
  await expect(target).toBeFocused();
}
