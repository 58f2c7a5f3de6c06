-- One event in one transaction: what the service asks of PostgreSQL for an update of a subscription that it holds, with
-- the statements and in the order of its own batch. For pgbench; what stands in @ is filled in.
\set number random(1000000000000, 9000000000000000)
\set subscription random(@FIRST@, @LAST@)
BEGIN;
SELECT id, tenant_id FROM event WHERE id = 'evt_' || :number;
INSERT INTO customer (id, deleted_at_ms) VALUES ('cus_' || :subscription, NULL) ON CONFLICT (id) DO NOTHING;
SELECT id, deleted_at_ms FROM customer WHERE id = 'cus_' || :subscription ORDER BY id FOR UPDATE;
SELECT * FROM tenant WHERE stripe_customer_id = 'cus_' || :subscription OR id = 'tenant-' || :subscription ORDER BY id FOR UPDATE;
SELECT * FROM subscription WHERE customer_id = 'cus_' || :subscription OR id = 'sub_' || :subscription;
SELECT * FROM checkout WHERE subscription_id = 'sub_' || :subscription;
INSERT INTO subscription (id, customer_id, tenant_id, status, items, current_period_end, cancel_at_period_end, as_of, revision, awaiting_payment, updated_at_ms) VALUES ('sub_' || :subscription, 'cus_' || :subscription, 'tenant-' || :subscription, 'active', '[{"price":"price_pro_monthly","lookup_key":"pro_monthly","quantity":7}]', 1800000000, FALSE, 1790000000, 2, FALSE, 1790000000000) ON CONFLICT (id) DO UPDATE SET customer_id = excluded.customer_id, tenant_id = excluded.tenant_id, status = excluded.status, started_at = excluded.started_at, items = excluded.items, current_period_end = excluded.current_period_end, trial_end = excluded.trial_end, cancel_at = excluded.cancel_at, cancel_at_period_end = excluded.cancel_at_period_end, ended_at = excluded.ended_at, as_of = excluded.as_of, revision = subscription.revision + 1, awaiting_payment = excluded.awaiting_payment, payment_problem = excluded.payment_problem, payment_noted_at = excluded.payment_noted_at, paid_at = excluded.paid_at, updated_at_ms = excluded.updated_at_ms;
INSERT INTO transition (entry, tenant_id, customer_id, subscription_id, from_status, to_status, cause, event_id, created, journey_id, trace_id, recorded_at_ms) VALUES ('subscription.transition', 'tenant-' || :subscription, 'cus_' || :subscription, 'sub_' || :subscription, 'active', 'active', 'customer.subscription.updated', 'evt_' || :number, 1790000000, '0af7651916cd43dd8448eb211c80319c', '0af7651916cd43dd8448eb211c80319c', 1790000000000);
SELECT pg_notify('billhook_entitlement', 'tenant-' || :subscription);
INSERT INTO event (id, event_type, api_version, created, customer_id, subscription_id, tenant_id, journey_id, trace_id, span_id, outcome, payload, received_at_ms, attempts) VALUES ('evt_' || :number, 'customer.subscription.updated', '2026-09-30.endive', 1790000000, 'cus_' || :subscription, 'sub_' || :subscription, 'tenant-' || :subscription, '0af7651916cd43dd8448eb211c80319c', '0af7651916cd43dd8448eb211c80319c', 'b7ad6b7169203331', 'applied', '\x@PAYLOAD@', 1790000000000, 0) ON CONFLICT (id) DO NOTHING;
COMMIT;
