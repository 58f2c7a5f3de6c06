import { useState } from "react";

import { BillingPage, type TokenRequest } from "..";
import { type DemoUser, fetchDemoUsers } from "./tokens";

/** The session storage key of the selected tenant, which must survive the visit to Stripe's pages. */
const TENANT_KEY = "billhook-demo-tenant";

/** A small application around the page, for the demo only. It is not in the package. */
export function Demo({ users }: { users: DemoUser[] }) {
  const [selected, setSelected] = useState(() => sessionStorage.getItem(TENANT_KEY));
  const user = users.find(({ tenant }) => tenant === selected) ?? users[0];
  const select = (tenant: string) => {
    sessionStorage.setItem(TENANT_KEY, tenant);
    setSelected(tenant);
  };

  return (
    <>
      <header className="demo-header">
        <p className="demo-name">
          Billhook <span>demo</span>
        </p>
        <p>This is a demo. No card is charged.</p>
        {user && <UserPicker users={users} user={user} onSelect={select} />}
      </header>
      <div className="demo-columns">
        <main>
          {user ? <BillingPage key={user.tenant} getToken={(request) => tokenOf(user, request)} /> : <NoUsers />}
        </main>
        {user && <Guide />}
      </div>
    </>
  );
}

async function tokenOf({ tenant, token }: DemoUser, { renew }: TokenRequest): Promise<string> {
  if (!renew) return token;
  const renewed = (await fetchDemoUsers()).find((user) => user.tenant === tenant);
  if (!renewed) throw new Error(`no token for ${tenant}`);
  return renewed.token;
}

interface UserPickerProps {
  users: DemoUser[];
  user: DemoUser;
  onSelect: (tenant: string) => void;
}

function UserPicker({ users, user, onSelect }: UserPickerProps) {
  return (
    <label className="demo-picker">
      Customer
      <select value={user.tenant} onChange={(event) => onSelect(event.target.value)}>
        {users.map(({ tenant, about }) => (
          <option key={tenant} value={tenant}>
            {tenant} ({about})
          </option>
        ))}
      </select>
    </label>
  );
}

function Guide() {
  return (
    <aside className="demo-guide" aria-labelledby="guide">
      <h2 id="guide">About this demo</h2>
      <p>
        The billing page is part of a product, and you are one of its customers. Billhook is the service behind it. It
        opens Stripe’s checkout and portal, receives Stripe’s webhooks, and reports each customer’s entitlements to the
        rest of the product.
      </p>
      <h2>Try it</h2>
      <ol>
        <li>
          Choose <strong>Upgrade</strong>, then <em>Pay</em> on the page that replaces Stripe’s checkout. The plan
          changes to Pro as soon as Billhook has received Stripe’s webhook.
        </li>
        <li>
          Choose <strong>Manage subscription</strong> and cancel. The billing page shows when the plan ends. Resume it
          the same way.
        </li>
        <li>
          <strong>Open a second window</strong> next to this one. Changes appear in both.
        </li>
      </ol>
      <h2>Logs</h2>
      <p>
        Every step is in the log files, with one trace id from the checkout on: <code>logs/billing.log</code>,{" "}
        <code>logs/webhook_signatures.log</code>, <code>logs/subscription_state.log</code>. All other endpoints are in
        the <a href="/docs">API reference</a>.
      </p>
    </aside>
  );
}

function NoUsers() {
  return (
    <section className="demo-guide">
      <h1>No demo users</h1>
      <p>
        This application around the billing page is only for the demo. <code>make run</code> starts the demo with its
        users.
      </p>
    </section>
  );
}
