// The webhook handler that teams write by hand: Express, stripe-node and pg, one transaction for
// each event. It stores the event's id, so that a duplicate changes nothing, and the subscription's
// state. It keeps no payload and no history, and does not order events.

import express from "express";
import pg from "pg";
import Stripe from "stripe";

const { DATABASE_URL, STRIPE_WEBHOOK_SECRET } = process.env;

const stripe = new Stripe("sk_test_unused");
const pool = new pg.Pool({ connectionString: DATABASE_URL, max: 20 });

await pool.query(`
  CREATE TABLE IF NOT EXISTS processed_event (id text PRIMARY KEY, type text NOT NULL, received_at timestamptz NOT NULL DEFAULT now());
  CREATE TABLE IF NOT EXISTS subscription_state (
    id text PRIMARY KEY, customer_id text NOT NULL, status text NOT NULL, price_id text NOT NULL,
    current_period_end bigint, cancel_at_period_end boolean NOT NULL, updated_at timestamptz NOT NULL DEFAULT now())`);

async function apply(event) {
  const client = await pool.connect();
  try {
    await client.query("BEGIN");
    const inserted = await client.query({
      name: "insert-event",
      text: "INSERT INTO processed_event (id, type) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING",
      values: [event.id, event.type],
    });
    if (inserted.rowCount === 1 && event.type.startsWith("customer.subscription.")) {
      const subscription = event.data.object;
      const item = subscription.items.data[0];
      await client.query({
        name: "save-subscription",
        text: `INSERT INTO subscription_state (id, customer_id, status, price_id, current_period_end, cancel_at_period_end)
          VALUES ($1, $2, $3, $4, $5, $6)
          ON CONFLICT (id) DO UPDATE SET status = excluded.status, price_id = excluded.price_id,
            current_period_end = excluded.current_period_end, cancel_at_period_end = excluded.cancel_at_period_end,
            updated_at = now()`,
        values: [
          subscription.id,
          subscription.customer,
          subscription.status,
          item.price.id,
          item.current_period_end,
          subscription.cancel_at_period_end,
        ],
      });
    }
    await client.query("COMMIT");
  } catch (error) {
    await client.query("ROLLBACK");
    throw error;
  } finally {
    client.release();
  }
}

const app = express();
app.post("/api/billing/webhook/", express.raw({ type: "application/json", limit: "1mb" }), async (request, response) => {
  let event;
  try {
    event = stripe.webhooks.constructEvent(request.body, request.header("stripe-signature"), STRIPE_WEBHOOK_SECRET);
  } catch {
    response.status(400).json({ error: "invalid signature" });
    return;
  }
  await apply(event);
  response.json({ received: true });
});

const server = app.listen(0, "127.0.0.1", () => console.log(`127.0.0.1:${server.address().port}`));
