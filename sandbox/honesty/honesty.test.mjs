// Drives the double with Stripe's own SDK. Behavior that the SDK accepts here is what Billhook's
// tests may rely on.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Agent, createServer } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { after, before, describe, it } from 'node:test';
import Stripe from 'stripe';

const sandbox = new URL(process.env.SANDBOX_URL ?? 'http://127.0.0.1:12111');

// The SDK does not read the body of a response that it retries, and the unread socket would keep
// node running.
const agent = new Agent({ keepAlive: true });
after(() => agent.destroy());

function client(key = 'sk_test_sandbox', options = {}) {
  return new Stripe(key, {
    apiVersion: '2026-09-30.endive',
    protocol: sandbox.protocol.replace(':', ''),
    host: sandbox.hostname,
    port: sandbox.port,
    telemetry: false,
    httpClient: Stripe.createNodeHttpClient(agent),
    ...options,
  });
}

const stripe = client();

async function control(method, path, body) {
  const response = await fetch(new URL(`/_sandbox${path}`, sandbox), { method, body: body && JSON.stringify(body) });
  assert.ok(response.ok, `${method} ${path}: ${response.status}`);
  return response.json();
}

async function openCheckout(customer, more = {}) {
  return stripe.checkout.sessions.create({
    mode: 'subscription',
    customer: customer.id,
    client_reference_id: 'tenant-1',
    metadata: { tenant_id: 'tenant-1' },
    subscription_data: { metadata: { tenant_id: 'tenant-1' } },
    line_items: [{ price: 'price_pro_monthly', quantity: 2 }],
    success_url: 'https://shop.example/done?session={CHECKOUT_SESSION_ID}',
    cancel_url: 'https://shop.example/back',
    ...more,
  });
}

async function subscribe() {
  const customer = await stripe.customers.create({});
  const session = await openCheckout(customer);
  await control('POST', `/checkout/${session.id}/pay`, { card: 'ok' });
  const paid = await stripe.checkout.sessions.retrieve(session.id);
  return { customer, subscription: await stripe.subscriptions.retrieve(paid.subscription) };
}

async function rejection(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  assert.fail('the call should fail');
}

describe('customers', () => {
  it('are created, retrieved, updated and deleted', async () => {
    const created = await stripe.customers.create({ email: 'a@example.com', metadata: { tenant_id: 't' } });
    assert.match(created.id, /^cus_[0-9A-Za-z]{14}$/);
    assert.match(created.lastResponse.requestId, /^req_/);
    assert.equal(created.lastResponse.apiVersion, '2026-09-30.endive');
    const changed = await stripe.customers.update(created.id, { metadata: { more: 'x', tenant_id: '' } });
    assert.deepEqual({ ...changed.metadata }, { more: 'x' });
    assert.equal((await stripe.customers.retrieve(created.id)).email, 'a@example.com');
    assert.equal((await stripe.customers.del(created.id)).deleted, true);
    assert.equal((await stripe.customers.retrieve(created.id)).deleted, true);
    const error = await rejection(openCheckout(created));
    assert.ok(error instanceof Stripe.errors.StripeInvalidRequestError);
    assert.deepEqual([error.statusCode, error.code, error.param], [400, 'resource_missing', 'customer']);
  });

  it('are rejected with the parameter name if missing', async () => {
    const { customer, subscription } = await subscribe();
    await control('DELETE', `/customers/${customer.id}`);
    const missing = async (promise) => {
      const error = await rejection(promise);
      assert.ok(error instanceof Stripe.errors.StripeInvalidRequestError);
      assert.equal(error.code, 'resource_missing');
      return [error.statusCode, error.param];
    };
    assert.deepEqual(await missing(stripe.customers.retrieve(customer.id)), [404, 'id']);
    assert.deepEqual(await missing(stripe.subscriptions.retrieve(subscription.id)), [404, 'id']);
    assert.deepEqual(await missing(stripe.subscriptions.list({ customer: customer.id })), [400, 'customer']);
    assert.deepEqual(await missing(stripe.billingPortal.sessions.create({ customer: customer.id })), [400, 'customer']);
    assert.deepEqual(await missing(openCheckout(customer)), [400, 'customer']);
  });
});

describe('time', () => {
  it('of the double is in the Date header and in created objects', async () => {
    const { now } = await control('POST', '/clock', { advance_seconds: 86_400 });
    const created = await stripe.customers.create({});
    assert.ok(created.created >= now);
    assert.ok(Date.parse(created.lastResponse.headers.date) / 1000 >= created.created);
  });
});

describe('events', () => {
  it('are filtered by time and type', async () => {
    await control('POST', '/clock', { stopped: true, advance_seconds: 60 });
    const { subscription } = await subscribe();
    const { now } = await control('POST', '/clock', { stopped: false, advance_seconds: 60 });
    const created = { gte: subscription.created, lt: now };
    const types = ['customer.subscription.created', 'invoice.paid'];
    const list = await stripe.events.list({ created, types, limit: 100 });
    assert.deepEqual(list.data.map((event) => event.type), types.toReversed());
  });

  it('are paginated by the SDK, newest first, without duplicates', async () => {
    const mail = `${crypto.randomUUID()}@example.com`;
    for (let number = 0; number < 7; number += 1) await stripe.customers.create({ email: mail });
    const seen = [];
    for await (const event of stripe.events.list({ type: 'customer.created', limit: 3 })) {
      if (event.data.object.email === mail) seen.push(event);
    }
    assert.equal(new Set(seen.map((event) => event.id)).size, 7);
    const newest = await stripe.events.retrieve(seen[0].id);
    assert.equal(newest.data.object.id, seen[0].data.object.id);
    assert.match(newest.request.id, /^req_/);
  });
});

describe('prices', () => {
  it('are found by lookup key', async () => {
    const prices = await stripe.prices.list({ lookup_keys: ['pro_monthly'], active: true });
    assert.deepEqual(prices.data.map((price) => price.id), ['price_pro_monthly']);
    assert.equal(prices.data[0].recurring.interval, 'month');
  });
});

describe('checkout', () => {
  it('creates, retrieves and expires a session', async () => {
    const session = await openCheckout(await stripe.customers.create({}));
    assert.equal(session.status, 'open');
    assert.equal(session.url, `${sandbox.origin}/c/pay/${session.id}`);
    assert.deepEqual(await stripe.checkout.sessions.retrieve(session.id), session);
    const expired = await stripe.checkout.sessions.expire(session.id);
    assert.deepEqual([expired.status, expired.url], ['expired', null]);
    const error = await rejection(stripe.checkout.sessions.expire(session.id));
    assert.ok(error instanceof Stripe.errors.StripeInvalidRequestError);
  });

  it('rejects a one-time price', async () => {
    const line_items = [{ price: 'price_setup_once', quantity: 1 }];
    const error = await rejection(openCheckout(await stripe.customers.create({}), { line_items }));
    assert.equal(error.param, 'line_items');
  });
});

describe('subscriptions', () => {
  it('have periods on items and metadata from the checkout', async () => {
    const { customer, subscription } = await subscribe();
    assert.equal(subscription.status, 'active');
    assert.equal(subscription.billing_mode.type, 'flexible');
    assert.equal(subscription.metadata.tenant_id, 'tenant-1');
    assert.equal(subscription.current_period_end, undefined);
    const [item] = subscription.items.data;
    assert.ok(item.current_period_end > item.current_period_start);
    assert.deepEqual([item.price.lookup_key, item.quantity], ['pro_monthly', 2]);
    const listed = await stripe.subscriptions.list({ customer: customer.id, status: 'all' });
    assert.deepEqual(listed.data.map((each) => each.id), [subscription.id]);
  });

  it('are updated, set to cancel, and canceled', async () => {
    const { subscription } = await subscribe();
    const [item] = subscription.items.data;
    const changed = await stripe.subscriptions.update(subscription.id, {
      items: [{ id: item.id, price: 'price_team_monthly' }],
      cancel_at_period_end: true,
    });
    assert.equal(changed.items.data[0].price.id, 'price_team_monthly');
    assert.deepEqual([changed.cancel_at_period_end, changed.cancel_at], [true, item.current_period_end]);
    const updates = await stripe.events.list({ type: 'customer.subscription.updated', limit: 1 });
    assert.equal(updates.data[0].data.previous_attributes.items.data[0].price.id, 'price_pro_monthly');
    assert.equal((await stripe.subscriptions.cancel(subscription.id)).status, 'canceled');
    const error = await rejection(stripe.subscriptions.cancel(subscription.id));
    assert.deepEqual([error.statusCode, error.code], [404, 'resource_missing']);
  });
});

describe('the portal', () => {
  it('creates a session with a flow', async () => {
    const { customer, subscription } = await subscribe();
    const session = await stripe.billingPortal.sessions.create({
      customer: customer.id,
      return_url: 'https://shop.example/billing',
      locale: 'de',
      flow_data: { type: 'subscription_cancel', subscription_cancel: { subscription: subscription.id } },
    });
    assert.ok(session.url.startsWith(`${sandbox.origin}/p/session/`));
    assert.equal(session.flow.subscription_cancel.subscription, subscription.id);
    const configurations = await stripe.billingPortal.configurations.list({ is_default: true });
    assert.equal(session.configuration, configurations.data[0].id);
  });

  it('rejects a flow for the subscription of another customer', async () => {
    const { subscription } = await subscribe();
    const other = await stripe.customers.create({});
    const error = await rejection(
      stripe.billingPortal.sessions.create({
        customer: other.id,
        flow_data: { type: 'subscription_update', subscription_update: { subscription: subscription.id } },
      }),
    );
    assert.equal(error.param, 'flow_data[subscription_update][subscription]');
  });
});

describe('idempotency', () => {
  it('replays the first response to a repeated call', async () => {
    const idempotencyKey = crypto.randomUUID();
    const first = await stripe.customers.create({ name: 'A' }, { idempotencyKey });
    const again = await stripe.customers.create({ name: 'A' }, { idempotencyKey });
    assert.deepEqual(again, first);
    assert.equal(first.lastResponse.headers['idempotent-replayed'], undefined);
    assert.equal(again.lastResponse.headers['idempotent-replayed'], 'true');
    const events = await stripe.events.list({ type: 'customer.created' });
    const ofCustomer = events.data.filter((event) => event.data.object.id === first.id);
    assert.deepEqual(ofCustomer.map((event) => event.request.idempotency_key), [idempotencyKey]);
  });

  it('rejects a key that was used with other parameters', async () => {
    const idempotencyKey = crypto.randomUUID();
    await stripe.customers.create({ name: 'A' }, { idempotencyKey });
    const error = await rejection(stripe.customers.create({ name: 'B' }, { idempotencyKey }));
    assert.ok(error instanceof Stripe.errors.StripeIdempotencyError);
    assert.equal(error.statusCode, 400);
  });
});

describe('errors', () => {
  it('name an unknown parameter', async () => {
    const error = await rejection(stripe.customers.create({ nmae: 'A' }));
    assert.ok(error instanceof Stripe.errors.StripeInvalidRequestError);
    assert.deepEqual([error.code, error.param], ['parameter_unknown', 'nmae']);
    assert.match(error.requestId, /^req_/);
  });

  it('name a missing parameter', async () => {
    const error = await rejection(stripe.billingPortal.sessions.create({}));
    assert.deepEqual([error.code, error.param], ['parameter_missing', 'customer']);
  });

  it('reject a wrong API key', async () => {
    const error = await rejection(client('sk_test_wrong').customers.list());
    assert.ok(error instanceof Stripe.errors.StripeAuthenticationError);
    assert.equal(error.statusCode, 401);
  });
});

describe('retries', () => {
  it('succeed after two server errors', async () => {
    const match = 'GET /v1/account';
    await control('POST', '/faults', { match, kind: 'status', status: 500, times: 2 });
    const account = await client('sk_test_sandbox', { maxNetworkRetries: 2 }).accounts.retrieveCurrent();
    assert.match(account.id, /^acct_/);
  });

  it('create one customer when only the response is lost', async () => {
    const email = `${crypto.randomUUID()}@example.com`;
    await control('POST', '/faults', { match: 'POST /v1/customers', kind: 'drop', times: 1, before: false });
    const created = await client('sk_test_sandbox', { maxNetworkRetries: 2 }).customers.create({ email });
    const found = await stripe.customers.list({ email });
    assert.deepEqual(found.data.map((customer) => customer.id), [created.id]);
  });

  it('do not happen with Stripe-Should-Retry: false', async () => {
    const fault = { match: 'GET /v1/prices', kind: 'status', status: 503, times: 1, should_retry: false };
    await control('POST', '/faults', fault);
    const error = await rejection(client('sk_test_sandbox', { maxNetworkRetries: 2 }).prices.list());
    assert.equal(error.statusCode, 503);
  });
});

describe('webhooks', () => {
  let receiver;
  const received = [];

  before(async () => {
    receiver = createServer(async (request, response) => {
      received.push({ headers: request.headers, body: await buffer(request) });
      response.writeHead(200).end();
      receiver.emit('webhook');
    });
    await once(receiver.listen(0, '127.0.0.1'), 'listening');
  });

  after(() => receiver.close());

  async function receive(id) {
    const hasId = (webhook) => JSON.parse(webhook.body).id === id;
    while (!received.some(hasId)) {
      await once(receiver, 'webhook', { signal: AbortSignal.timeout(10_000) });
    }
    return received.find(hasId);
  }

  it('have signatures that the SDK accepts', async () => {
    const endpoint = await stripe.webhookEndpoints.create({
      url: `http://127.0.0.1:${receiver.address().port}/webhook`,
      enabled_events: ['customer.created'],
      api_version: '2026-09-30.endive',
    });
    assert.match(endpoint.secret, /^whsec_/);
    assert.equal((await stripe.webhookEndpoints.retrieve(endpoint.id)).secret, undefined);

    const customer = await stripe.customers.create({});
    const events = await stripe.events.list({ type: 'customer.created' });
    const sent = events.data.find((event) => event.data.object.id === customer.id);
    const { headers, body } = await receive(sent.id);
    const event = stripe.webhooks.constructEvent(body, headers['stripe-signature'], endpoint.secret);
    assert.equal(event.data.object.id, customer.id);
    assert.match(headers['user-agent'], /^Stripe\/1\.0/);
    assert.equal(headers['content-type'], 'application/json; charset=utf-8');
    assert.throws(
      () => stripe.webhooks.constructEvent(`${body} `, headers['stripe-signature'], endpoint.secret),
      Stripe.errors.StripeSignatureVerificationError,
    );

    const disabled = await stripe.webhookEndpoints.update(endpoint.id, { disabled: true });
    assert.equal(disabled.status, 'disabled');
    assert.equal((await stripe.webhookEndpoints.del(endpoint.id)).deleted, true);
  });
});
