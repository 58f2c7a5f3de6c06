// Reads a body from stdin and prints the Stripe-Signature header that Stripe's own SDK makes for it.
// The secret is the first argument, or WEBHOOK_SECRET; the second argument, or TIMESTAMP, is the second at which it
// is signed (now, if there is none).
import { text } from 'node:stream/consumers';
import Stripe from 'stripe';

const secret = process.argv[2] ?? process.env.WEBHOOK_SECRET;
const timestamp = process.argv[3] ?? process.env.TIMESTAMP;
if (!secret) {
  console.error('usage: node sign.mjs <secret> [timestamp] < body');
  process.exit(2);
}

const payload = await text(process.stdin);
const options = { payload, secret, ...(timestamp && { timestamp: Number(timestamp) }) };
console.log(Stripe.webhooks.generateTestHeaderString(options));
