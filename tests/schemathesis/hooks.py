"""What the OpenAPI document cannot describe: Stripe's signatures, its events, and the configured plans."""

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
# In the format of BILLHOOK_PLANS: `pro=price_a,price_b;team=price_c`.
PLANS = [plan.split("=")[0] for plan in os.environ["PLANS"].split(";")]
# The pattern of an event's type in the OpenAPI document.
WORD = re.compile(r"[A-Za-z0-9._\[\]-]{1,255}")
HAS_TOKENS = bool(os.environ["USER_TOKEN"])

# The minimal objects that the service understands, of a tenant that only these events use.
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
    """Signs the request's body as Stripe does."""

    def __call__(self, request):
        body = request.body or b""
        body = body if isinstance(body, bytes) else body.encode()
        now = str(int(time.time()))
        digest = hmac.new(SECRET, now.encode() + b"." + body, hashlib.sha256).hexdigest()
        request.headers["Stripe-Signature"] = f"t={now},v1={digest}"
        return request


@schemathesis.hook
def before_call(context, case, kwargs):
    """Signs webhooks unless the case tests an invalid header, and requests configured plans."""
    is_negative = case.meta.is_negative_at
    if case.path == WEBHOOK and not is_negative(ParameterLocation.HEADER):
        kwargs["auth"] = Signature()
    plan = case.body.get("plan") if isinstance(case.body, dict) else None
    if isinstance(plan, str) and not is_negative(ParameterLocation.BODY):
        case.body["plan"] = PLANS[len(plan) % len(PLANS)]


@schemathesis.hook.apply_to(path=WEBHOOK)
def flatmap_body(context, body):
    """Replaces half of the events by handled types. Keeps an event whose type is invalid on purpose."""
    if not isinstance(body, dict) or not isinstance(body.get("type"), str) or not WORD.fullmatch(body["type"]):
        return st.just(body)
    return st.one_of(st.just(body), events(body))


@st.composite
def events(draw, body):
    kind = draw(st.sampled_from(TYPES))
    minimal = next(minimal for prefix, minimal in OBJECTS.items() if kind.startswith(prefix))
    status = {"status": draw(st.sampled_from(STATUSES))}
    return {**body, "type": kind, "data": {"object": {**minimal, **status}}}


@schemathesis.check
class TokensRequired:
    """With tokens every operation must answer 200 at least once, or it was not tested. Without tokens the operations that
    require one must never answer 200."""

    def __init__(self):
        self.requested, self.succeeded, self.protected = set(), set(), set()

    def after_response(self, ctx, response, case):
        operation = case.operation
        self.requested.add(operation.label)
        if response.status_code == 200:
            self.succeeded.add(operation.label)
        if operation.definition.raw.get("security"):
            self.protected.add(operation.label)

    def after_run(self, ctx):
        expected = self.requested if HAS_TOKENS else self.requested - self.protected
        wrong = sorted(expected ^ self.succeeded)
        assert not wrong, f"answered 200 unexpectedly, or never answered 200: {', '.join(wrong)}"
