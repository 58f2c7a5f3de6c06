import type { Page } from "@playwright/test";

import { holdsInEveryLook } from "./looks";
import { expect, test } from "./stage";
import type { System } from "./system";

// The pages of the double: what stands in for Stripe's checkout and portal.

const APPLICATION = "https://application.example";
const LONG_NAME = `${"Landesverband der Landwirtschaftsgenossenschaften".repeat(2)} & <Söhne>`;

const button = (page: Page, name: string) => page.getByRole("button", { name, exact: true });

type Parameters = Record<string, string>;

async function customer(system: System, name = "Acme"): Promise<string> {
  return (await system.stripe<{ id: string }>("customers", { name })).id;
}

/** An open checkout, for somebody new unless a customer is named. */
function checkout(system: System, more: Parameters = {}): Promise<{ id: string; url: string }> {
  return system.stripe("checkout/sessions", {
    mode: "subscription",
    "line_items[0][price]": "price_pro_monthly",
    "line_items[0][quantity]": "1",
    success_url: `${APPLICATION}/done`,
    cancel_url: `${APPLICATION}/plans`,
    ...more,
  });
}

/** A customer's subscription that is paid for. */
async function subscription(system: System, customer: string, more: Parameters = {}): Promise<string> {
  const { id } = await checkout(system, { customer, ...more });
  await system.double(`checkout/${id}/pay`, { card: "ok" });
  return (await system.stripe<{ subscription: string }>(`checkout/sessions/${id}`)).subscription;
}

async function portal(system: System, customer: string, more: Parameters = {}): Promise<string> {
  const parameters = { customer, return_url: `${APPLICATION}/billing`, ...more };
  return (await system.stripe<{ url: string }>("billing_portal/sessions", parameters)).url;
}

/** The portal of somebody who has Pro, and in which one thing only can be done. */
async function flow(system: System, type: string): Promise<string> {
  const owner = await customer(system);
  const id = await subscription(system, owner);
  const about = type === "payment_method_update" ? {} : { [`flow_data[${type}][subscription]`]: id };
  return portal(system, owner, { "flow_data[type]": type, ...about });
}

/** Everything that the pages can look like. */
interface State {
  name: string;
  heading: string;
  /** What stands on it besides, and in no other state of it. */
  says: string;
  /** Brings it about, and tells where it is. */
  url: (system: System) => Promise<string>;
  /** What is pressed there first. */
  press?: string;
}

const pro = async (system: System) => portal(system, await ownerOfPro(system));
async function ownerOfPro(system: System): Promise<string> {
  const owner = await customer(system);
  await subscription(system, owner);
  return owner;
}

/** A tenant whose renewal was declined, and the page of the open invoice. */
async function owing(system: System): Promise<{ owner: string; invoice: string }> {
  const owner = await customer(system);
  const id = await subscription(system, owner);
  await system.double(`subscriptions/${id}`, { card: "declined", renew: true });
  const { latest_invoice } = await system.stripe<{ latest_invoice: string }>(`subscriptions/${id}`);
  const { hosted_invoice_url } = await system.stripe<{ hosted_invoice_url: string }>(`invoices/${latest_invoice}`);
  return { owner, invoice: hosted_invoice_url };
}

const STATES: State[] = [
  {
    name: "checkout",
    heading: "Checkout",
    says: "Pro, $29.00 a month",
    url: async (system) => (await checkout(system, { customer: await customer(system) })).url,
  },
  {
    name: "checkout-long",
    heading: "Checkout",
    says: "14 days",
    url: async (system) => {
      const more = {
        customer: await customer(system, LONG_NAME),
        "line_items[0][quantity]": "12000",
        "line_items[1][price]": "price_team_monthly",
        "line_items[1][quantity]": "3",
        "subscription_data[trial_period_days]": "14",
      };
      return (await checkout(system, more)).url;
    },
  },
  {
    name: "checkout-declined",
    heading: "Checkout",
    says: "The card was declined",
    url: async (system) => (await checkout(system)).url,
    press: "Pay with a card that is declined",
  },
  {
    name: "checkout-complete",
    heading: "This checkout is complete",
    says: "Continue to the application",
    url: async (system) => {
      const { id, url } = await checkout(system);
      await system.double(`checkout/${id}/pay`, { card: "ok" });
      return url;
    },
  },
  {
    name: "checkout-expired",
    heading: "This checkout has expired",
    says: "Return to the application",
    url: async (system) => {
      const { id, url } = await checkout(system);
      await system.stripe(`checkout/sessions/${id}/expire`, {});
      return url;
    },
  },
  {
    name: "checkout-unknown",
    heading: "There is no such checkout",
    says: "forgets everything when it stops",
    url: (system) => Promise.resolve(`${system.doubleOrigin}/c/pay/cs_test_none`),
  },
  { name: "portal", heading: "Your subscription", says: "Renews on", url: pro },
  {
    name: "portal-canceled",
    heading: "Your subscription",
    says: "The subscription was canceled",
    url: pro,
    press: "Cancel subscription",
  },
  {
    name: "portal-changed",
    heading: "Your subscription",
    says: "The plan was changed",
    url: pro,
    press: "Change plan",
  },
  { name: "portal-card", heading: "Your subscription", says: "The card was updated", url: pro, press: "Update card" },
  {
    name: "portal-many",
    heading: "Your subscriptions",
    says: "Ended on",
    url: async (system) => {
      const owner = await customer(system, LONG_NAME);
      const ended = await subscription(system, owner);
      await system.double(`subscriptions/${ended}`, { status: "canceled" });
      const late = await subscription(system, owner, { "line_items[0][quantity]": "12" });
      await system.double(`subscriptions/${late}`, { status: "past_due" });
      await subscription(system, owner, { "subscription_data[trial_period_days]": "14" });
      return portal(system, owner);
    },
  },
  {
    name: "portal-empty",
    heading: "Your subscription",
    says: "There is no subscription",
    url: async (system) => portal(system, await customer(system)),
  },
  {
    name: "portal-flow-cancel",
    heading: "Cancel your subscription",
    says: "If canceled, it ends on",
    url: (system) => flow(system, "subscription_cancel"),
  },
  {
    name: "portal-flow-plan",
    heading: "Change your plan",
    says: "New plan",
    url: (system) => flow(system, "subscription_update"),
  },
  {
    name: "portal-flow-card",
    heading: "Update your card",
    says: "There is no real card",
    url: (system) => flow(system, "payment_method_update"),
  },
  {
    name: "portal-unknown",
    heading: "There is no such portal session",
    says: "Open another one in the application",
    url: (system) => Promise.resolve(`${system.doubleOrigin}/p/session/test_none`),
  },
  {
    name: "portal-owing",
    heading: "Your subscription",
    says: "Open invoices",
    url: async (system) => portal(system, (await owing(system)).owner),
  },
  { name: "invoice", heading: "Invoice", says: "What is owed", url: async (system) => (await owing(system)).invoice },
  {
    name: "invoice-declined",
    heading: "Invoice",
    says: "The card was declined",
    url: async (system) => (await owing(system)).invoice,
    press: "Pay with a card that is declined",
  },
  {
    name: "invoice-unknown",
    heading: "There is no such invoice",
    says: "Open the invoice again",
    url: (system) => Promise.resolve(`${system.doubleOrigin}/i/acct_1/test_none`),
  },
  {
    name: "no-page",
    heading: "There is no such page",
    says: "The application leads there",
    url: (system) => Promise.resolve(system.doubleOrigin),
  },
];

for (const { name, heading, says, url, press } of STATES) {
  test(`the double's ${name} is accessible, and not Stripe's, light and dark, wide and narrow, and in large letters`, async ({
    system,
    page,
  }) => {
    await page.goto(await url(system));
    if (press) await button(page, press).click();
    await expect(page.getByRole("heading", { level: 1, name: heading, exact: true })).toBeVisible();
    await expect(page.getByRole("main")).toContainText(says);
    await expect(page.getByRole("banner")).toHaveText("This is Billhook's sandbox, not Stripe. No money moves.");
    await expect(page).toHaveTitle(`${press ? `${says} · ` : ""}${heading} · Billhook's sandbox, not Stripe`);

    await holdsInEveryLook(page, `double-${name}`);
  });
}

test("a subscription that is over meanwhile is not canceled, and there is a way back", async ({ system, page }) => {
  const owner = await customer(system);
  const id = await subscription(system, owner);
  await page.goto(await portal(system, owner));
  await system.double(`subscriptions/${id}`, { status: "canceled" });
  await button(page, "Cancel subscription").click();

  await expect(page.getByRole("heading", { name: "That cannot be done here" })).toBeVisible();
  await holdsInEveryLook(page, "double-impossible");
  await page.getByRole("link", { name: "Back to the portal" }).click();
  await expect(page.getByRole("region", { name: "Pro" })).toContainText("Ended on");
});

test("of several subscriptions each button says which one it is for", async ({ system, page }) => {
  const owner = await ownerOfPro(system);
  await subscription(system, owner, { "line_items[0][price]": "price_team_monthly" });
  await page.goto(await portal(system, owner));

  const cancel = button(page, "Cancel subscription");
  await expect(cancel).toHaveCount(2);
  await expect(cancel.first()).toHaveAccessibleDescription(/^Pro \(1 of 2\) If canceled, it ends on /);
  await expect(cancel.last()).toHaveAccessibleDescription(/^Team \(2 of 2\) If canceled, it ends on /);
  await cancel.last().click();
  await expect(page.getByRole("region", { name: "Pro" })).toContainText("Renews on");
  await expect(page.getByRole("region", { name: "Team" })).toContainText("Ends on");
});

test.describe("without scripts, and with the keyboard alone", () => {
  test.use({ javaScriptEnabled: false });

  test("a declined card takes the focus, and what comes next is one key away", async ({ system, page }) => {
    await page.goto((await checkout(system)).url);
    await reach(page, "Pay with a card that is declined");
    await page.keyboard.press("Enter");
    await expect(page.getByRole("alert", { name: "The card was declined" })).toBeFocused();

    await page.keyboard.press("Tab");
    await expect(button(page, "Pay")).toBeFocused();
    await expect(button(page, "Pay")).toHaveCSS("outline-style", "solid");
  });

  test("the portal's plan is changed, and its subscription canceled and resumed", async ({ system, page }) => {
    await page.goto(await pro(system));
    await reach(page, "Change plan");
    await page.keyboard.press("Shift+Tab");
    await expect(page.getByRole("combobox", { name: "New plan" })).toBeFocused();
    await page.keyboard.type("Team");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await expect(page.getByRole("status", { name: "The plan was changed" })).toBeFocused();
    await expect(page.getByRole("region", { name: "Team" })).toContainText("$99.00 a month");

    await reach(page, "Cancel subscription");
    await page.keyboard.press("Enter");
    await expect(page.getByRole("status", { name: "The subscription was canceled" })).toBeFocused();
    await expect(page.getByRole("region", { name: "Team" })).toContainText("Ends on");

    await reach(page, "Resume subscription");
    await page.keyboard.press("Enter");
    await expect(page.getByRole("status", { name: "The subscription goes on" })).toBeFocused();
    await expect(page.getByRole("region", { name: "Team" })).toContainText("Renews on");
  });
});

/** Presses Tab until the button has the focus, a dozen times at most. */
async function reach(page: Page, name: string): Promise<void> {
  const wanted = button(page, name);
  await expect(wanted).toBeVisible();
  for (let presses = 0; presses < 12 && !(await wanted.evaluate((it) => it.matches(":focus"))); presses += 1) {
    await page.keyboard.press("Tab");
  }
  await expect(wanted).toBeFocused();
}
