"""What the contract cannot tell schemathesis: how Stripe signs, what it sends, and which plans are configured."""

import hashlib
import hmac
import os
import re
import time

import schemathesis
from hypothesis import strategies as st
from requests.auth import AuthBase
from schemathesis.core.parameters import ParameterLocation

WEBHOOK = "/api/billing/webhook/"
SECRET = os.environ["WEBHOOK_SECRET"].encode()
# As the service has them: `pro=price_a,price_b;team=price_c`.
PLANS = [plan.split("=")[0] for plan in os.environ["PLANS"].split(";")]
# As the contract has the type of an event.
WORD = re.compile(r"[A-Za-z0-9._\[\]-]{1,255}")
HAS_TOKENS = bool(os.environ["USER_TOKEN"])

# Of each kind of object the least that is understood, about a tenant of the events' own.
TAGS = {"metadata": {"tenant_id": "birch"}}
OBJECTS = {
    "customer.subscription": {"id": "sub_1", "customer": "cus_1", **TAGS},
    "checkout.session": {"id": "cs_1", "customer": "cus_1", "subscription": "sub_1", **TAGS},
    "invoice": {"id": "in_1", "customer": "cus_1", "subscription": "sub_1"},
    "customer": {"id": "cus_1"},
    "billing_portal.session": {"id": "bps_1", "customer": "cus_1"},
}
TYPES = [
    *(f"customer.subscription.{change}" for change in ("created", "updated", "deleted", "paused", "trial_will_end")),
    *(f"checkout.session.{change}" for change in ("completed", "expired", "async_payment_failed")),
    *(f"invoice.{change}" for change in ("paid", "payment_failed", "payment_action_required")),
    "customer.deleted",
    "billing_portal.session.created",
]
STATUSES = ["active", "trialing", "past_due", "canceled", "unpaid", "a_status_of_tomorrow"]


class Signature(AuthBase):
    """Signs the bytes that are sent, as Stripe does."""

    def __call__(self, request):
        body = request.body or b""
        body = body if isinstance(body, bytes) else body.encode()
        now = str(int(time.time()))
        digest = hmac.new(SECRET, now.encode() + b"." + body, hashlib.sha256).hexdigest()
        request.headers["Stripe-Signature"] = f"t={now},v1={digest}"
        return request


@schemathesis.hook
def before_call(context, case, kwargs):
    """Signs webhooks, but for those whose signature is meant to be wrong; and asks for plans that there are."""
    is_negative = case.meta.is_negative_at
    if case.path == WEBHOOK and not is_negative(ParameterLocation.HEADER):
        kwargs["auth"] = Signature()
    plan = case.body.get("plan") if isinstance(case.body, dict) else None
    if isinstance(plan, str) and not is_negative(ParameterLocation.BODY):
        case.body["plan"] = PLANS[len(plan) % len(PLANS)]


@schemathesis.hook.apply_to(path=WEBHOOK)
def flatmap_body(context, body):
    """Of two events, one is of a type that means something here. One whose type is meant to be wrong keeps it."""
    if not isinstance(body, dict) or not isinstance(body.get("type"), str) or not WORD.fullmatch(body["type"]):
        return st.just(body)
    return st.one_of(st.just(body), events(body))


@st.composite
def events(draw, body):
    kind = draw(st.sampled_from(TYPES))
    least = next(least for prefix, least in OBJECTS.items() if kind.startswith(prefix))
    status = {"status": draw(st.sampled_from(STATUSES))}
    return {**body, "type": kind, "data": {"object": {**least, **status}}}


@schemathesis.check
class TokensDecide:
    """With tokens every operation answers 200 at least once, or it would not have been tested. Without, those that need
    one never do."""

    def __init__(self):
        self.tried, self.reached, self.closed = set(), set(), set()

    def after_response(self, ctx, response, case):
        operation = case.operation
        self.tried.add(operation.label)
        if response.status_code == 200:
            self.reached.add(operation.label)
        if operation.definition.raw.get("security"):
            self.closed.add(operation.label)

    def after_run(self, ctx):
        expected = self.tried if HAS_TOKENS else self.tried - self.closed
        wrong = sorted(expected ^ self.reached)
        assert not wrong, f"answered 200 although it should not, or never although it should: {', '.join(wrong)}"
