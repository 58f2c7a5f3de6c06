// Reads a body from stdin and prints its Stripe-Signature header, created by Stripe's own SDK. The
// secret is the first argument or WEBHOOK_SECRET. The Unix time of the signature is the second
// argument or TIMESTAMP (default: now).
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
