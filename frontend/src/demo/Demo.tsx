import { useState } from "react";

import { BillingPage, type TokenRequest } from "..";
import { type DemoUser, fetchDemoUsers } from "./tokens";

/** Where the browser tab remembers whom it shows, on the way to Stripe's pages and back. */
const CHOSEN = "billhook-demo-tenant";

/** A little application around the page, for the demo only: it is not in the package. */
export function Demo({ users }: { users: DemoUser[] }) {
  const [chosen, setChosen] = useState(() => sessionStorage.getItem(CHOSEN));
  const user = users.find(({ tenant }) => tenant === chosen) ?? users[0];
  const choose = (tenant: string) => {
    sessionStorage.setItem(CHOSEN, tenant);
    setChosen(tenant);
  };

  return (
    <>
      <header className="demo-header">
        <p className="demo-name">
          Billhook <span>demo</span>
        </p>
        <p>Nothing here is real: no card is charged.</p>
        {user && <UserPicker users={users} user={user} onChoose={choose} />}
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
  const again = (await fetchDemoUsers()).find((user) => user.tenant === tenant);
  if (!again) throw new Error(`no token for ${tenant}`);
  return again.token;
}

interface UserPickerProps {
  users: DemoUser[];
  user: DemoUser;
  onChoose: (tenant: string) => void;
}

function UserPicker({ users, user, onChoose }: UserPickerProps) {
  return (
    <label className="demo-picker">
      Customer
      <select value={user.tenant} onChange={(event) => onChoose(event.target.value)}>
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
      <h2 id="guide">What this is</h2>
      <p>
        The billing page belongs to some product, and you are one of its customers. Billhook is the service behind it:
        it opens Stripe’s checkout and portal, takes Stripe’s webhooks, and tells the rest of the product what each
        customer is entitled to.
      </p>
      <h2>What to try</h2>
      <ol>
        <li>
          <strong>Upgrade</strong>, and press <em>Pay</em> on the page that stands in for Stripe’s. Back here the plan
          turns to Pro by itself, as soon as Billhook has Stripe’s webhook.
        </li>
        <li>
          <strong>Manage subscription</strong>, and cancel there. The billing page then says when the plan ends. Resume
          it the same way.
        </li>
        <li>
          <strong>Open a second window</strong> beside this one: what happens in one is seen in both.
        </li>
      </ol>
      <h2>Where to look</h2>
      <p>
        Every step is in the log files, under one trace id from the checkout on: <code>logs/billing.log</code>,{" "}
        <code>logs/webhook_signatures.log</code>, <code>logs/subscription_state.log</code>. What else the service can do
        is in the <a href="/docs">description of its API</a>.
      </p>
    </aside>
  );
}

function NoUsers() {
  return (
    <section className="demo-guide">
      <h1>There is nobody to sign in as</h1>
      <p>
        This application around the billing page is for the demo. <code>make run</code> starts the demo, and gives it
        the users to look at the page as.
      </p>
    </section>
  );
}
