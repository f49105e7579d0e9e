"""What a code is, what its terms say, and what the three shops are asked for: one promise for the family."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afterglow.coupons.providers import PROVIDERS, NoAccessError, access
from afterglow.coupons.talking import NOT_OURS, Created, Disabled, Reply, TroubleError
from afterglow.coupons.terms import LETTERS, Terms, code_of, mark_of
from tests.coupon_shops import ENVIRONMENT, CouponShops
from tests.examples import examples

NOW = datetime(2026, 3, 2, 8, tzinfo=UTC)
TERMS = Terms(name="five-off", mark="afterglow-MARK", currency="EUR", starts_at=NOW, percent=Decimal(10))
SECRET = b"a secret of the tests"
EVERY = pytest.mark.parametrize("provider", sorted(PROVIDERS))

moments = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))
amounts = st.none() | st.integers(1, 10**9)
terms = st.builds(
    Terms,
    name=st.sampled_from(["five-off", "x"]),
    mark=st.just("m"),
    currency=st.sampled_from(["EUR", "JPY", "BHD"]),
    starts_at=moments,
    percent=st.none() | st.decimals(min_value="0.01", max_value=100, places=2),
    amount=amounts,
    minimum=amounts,
    once_per_customer=st.booleans(),
    ends_at=st.none() | moments,
    shared=st.booleans(),
)


def talk(shops: CouponShops, provider: str, steps: Any, broken_at: int | None = None) -> Any:
    """Hold a talk with a shop of the tests; `broken_at`: the so-manieth call is done, and its answer lost."""
    headers = {name.lower(): value for name, value in access(provider, ENVIRONMENT).headers.items()}
    reply = None
    for number in range(1, 10):
        try:
            call = next(steps) if reply is None else steps.send(reply)
        except StopIteration as stop:
            return stop.value
        every = headers | {name.lower(): value for name, value in call.headers.items()}
        status, content = shops.answer(provider, call.method, call.path, every, call.body or b"")
        if number == broken_at:
            return None
        reply = Reply(status=status, content=json.loads(json.dumps(content)))
    raise AssertionError("the talk never ends")


def create(shops: CouponShops, provider: str, code: str = "CODE", of: Terms = TERMS, **options: Any) -> Any:
    return talk(shops, provider, PROVIDERS[provider].create(code, of, 1), **options)


def disable(shops: CouponShops, provider: str, id_: str | None, of: Terms = TERMS) -> Any:
    return talk(shops, provider, PROVIDERS[provider].disable("CODE", of, id_))


@pytest.fixture
def shops() -> CouponShops:
    return CouponShops()


@given(st.text(), st.text())
@settings(max_examples=examples(100))
def test_a_code_is_the_same_for_ever_and_another_for_everybody_else(one: str, other: str):
    code = code_of(SECRET, one)
    assert code == code_of(SECRET, one)
    assert len(code) * 5 >= 64
    assert set(code) <= set(LETTERS)
    assert len(LETTERS) == 32
    assert (code == code_of(SECRET, other)) == (one == other)
    assert code != code_of(b"another secret", one)
    assert code not in mark_of(SECRET, one)


@given(terms)
@settings(max_examples=examples(100))
def test_terms_are_kept_as_json_and_read_again(one: Terms):
    assert Terms.read(json.loads(json.dumps(one.plain()))) == one


@EVERY
def test_a_code_is_created_once_however_often_it_is_asked_for(provider: str, shops: CouponShops):
    first = create(shops, provider)
    assert isinstance(first, Created)
    assert create(shops, provider) == first
    assert shops.created == [(provider, "CODE")]


@EVERY
@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_talk_that_breaks_off_after_any_call_is_begun_again_and_ends_with_one_code(
    provider: str, call: int, shops: CouponShops
):
    create(shops, provider, broken_at=call)
    assert isinstance(create(shops, provider), Created)
    assert shops.created == [(provider, "CODE")]


@EVERY
def test_a_code_that_somebody_else_made_is_no_success(provider: str, shops: CouponShops):
    create(shops, provider, of=replace(TERMS, mark="somebody"))
    with pytest.raises(TroubleError, match=NOT_OURS) as trouble:
        create(shops, provider)
    assert trouble.value.for_good
    assert disable(shops, provider, None) == Disabled(was_used=False)
    assert shops.codes[provider]["CODE"].active, "what is not ours is left alone"


@EVERY
def test_a_code_is_taken_out_of_use_twice_as_well_as_once(provider: str, shops: CouponShops):
    made = create(shops, provider)
    assert disable(shops, provider, made.external_id) == Disabled(was_used=False)
    assert not shops.codes[provider]["CODE"].active
    assert disable(shops, provider, made.external_id) == Disabled(was_used=False)
    assert disable(shops, provider, None) == Disabled(was_used=False)


@EVERY
def test_a_code_whose_creation_was_never_heard_of_is_found_and_taken_out_of_use(provider: str, shops: CouponShops):
    assert disable(shops, provider, None) == Disabled(was_used=False), "there may be none"
    create(shops, provider)
    assert disable(shops, provider, None) == Disabled(was_used=False)
    assert not shops.codes[provider]["CODE"].active


@EVERY
def test_a_code_that_the_shop_deleted_is_out_of_use(provider: str, shops: CouponShops):
    made = create(shops, provider)
    shops.codes[provider].clear()
    assert disable(shops, provider, made.external_id) == Disabled(was_used=False)


@EVERY
def test_a_code_that_was_used_is_told_apart(provider: str, shops: CouponShops):
    made = create(shops, provider)
    shops.codes[provider]["CODE"].uses = 1
    assert disable(shops, provider, made.external_id) == Disabled(was_used=True)


@EVERY
@pytest.mark.parametrize(
    ("status", "for_good"), [(400, True), (422, True), (401, False), (403, False), (429, False), (500, False)]
)
def test_what_may_be_put_right_is_tried_again(provider: str, status: int, for_good: bool):
    steps = PROVIDERS[provider].create("CODE", TERMS, 1)
    next(steps)
    with pytest.raises(TroubleError) as trouble:
        steps.send(Reply(status=status, content={"error": {}}, quiet=timedelta(seconds=7) if status == 429 else None))
    assert trouble.value.for_good == for_good
    assert (trouble.value.quiet == timedelta(seconds=7)) == (status == 429)


@EVERY
def test_a_page_in_the_place_of_json_is_trouble_that_passes(provider: str):
    steps = PROVIDERS[provider].create("CODE", TERMS, 1)
    next(steps)
    with pytest.raises(TroubleError) as trouble:
        steps.send(Reply(status=200))
    assert not trouble.value.for_good


def test_shopify_says_with_status_200_that_it_is_asked_too_much_or_not_allowed():
    for code, quiet, said in (("THROTTLED", True, "fewer requests"), ("ACCESS_DENIED", False, "write_discounts")):
        steps = PROVIDERS["shopify"].create("CODE", TERMS, 1)
        next(steps)
        with pytest.raises(TroubleError, match=said) as trouble:
            steps.send(Reply(status=200, content={"errors": [{"extensions": {"code": code}}]}))
        assert (trouble.value.quiet is not None, trouble.value.for_good) == (quiet, False)


FULL = replace(TERMS, percent=None, amount=1050, minimum=2000, ends_at=NOW + timedelta(days=90))


def test_shopify_is_asked_for_what_the_file_says(shops: CouponShops):
    create(shops, "shopify", of=FULL)
    create(shops, "shopify", code="OTHER", of=replace(TERMS, shared=True))
    full, shared = (shops.codes["shopify"][code].said for code in ("CODE", "OTHER"))
    assert full["customerGets"]["value"] == {"discountAmount": {"amount": "10.50", "appliesOnEachItem": False}}
    assert full["minimumRequirement"] == {"subtotal": {"greaterThanOrEqualToSubtotal": "20.00"}}
    assert (full["usageLimit"], full["appliesOncePerCustomer"]) == (1, True)
    assert full["endsAt"] == "2026-05-31T08:00:00+00:00"
    assert shared["customerGets"]["value"] == {"percentage": 0.1}
    assert ("usageLimit" in shared, "endsAt" in shared, shared["appliesOncePerCustomer"]) == (False, False, True)


def test_woocommerce_is_asked_for_what_the_file_says(shops: CouponShops):
    create(shops, "woocommerce", of=FULL)
    create(shops, "woocommerce", code="OTHER", of=replace(TERMS, once_per_customer=False))
    full, often = (shops.codes["woocommerce"][code].said for code in ("CODE", "OTHER"))
    assert full == {
        "code": "CODE",
        "discount_type": "fixed_cart",
        "amount": "10.50",
        "description": "five-off afterglow-MARK",
        "usage_limit": 1,
        "usage_limit_per_user": 1,
        "minimum_amount": "20.00",
        "date_expires_gmt": "2026-05-31T08:00:00",
    }
    assert (often["discount_type"], often["amount"], "usage_limit" in often) == ("percent", "10", False)


def test_stripe_is_asked_for_what_the_file_says_and_codes_of_one_worth_share_a_coupon(shops: CouponShops):
    create(shops, "stripe", of=FULL)
    create(shops, "stripe", code="OTHER", of=FULL)
    create(shops, "stripe", code="THIRD", of=TERMS)
    full = shops.codes["stripe"]["CODE"].said
    first, second = shops.stripe_coupons.values()
    assert (first["amount_off"], first["currency"], first["duration"]) == ("1050", "eur", "once")
    assert second["percent_off"] == "10"
    assert (full["max_redemptions"], full["expires_at"]) == ("1", str(int(FULL.ends_at.timestamp())))  # type: ignore[union-attr]
    assert full["restrictions[minimum_amount]"] == "2000"
    assert full["restrictions[minimum_amount_currency]"] == "eur"


def test_stripe_gets_a_key_for_each_try_so_that_an_old_failure_is_not_answered_again():
    def key(attempt: int) -> str:
        steps = PROVIDERS["stripe"].create("CODE", TERMS, attempt)
        next(steps)
        call = steps.send(Reply(status=200, content={"metadata": {"afterglow": "coupon"}}))
        assert parse_qs((call.body or b"").decode())["code"] == ["CODE"]
        return call.headers["Idempotency-Key"]

    assert key(1) == key(1)
    assert key(1) != key(2)


def _bad() -> Iterator[tuple[str, str, str]]:
    yield "shopify", "SHOPIFY_SHOP", "evil.example/x"
    yield "shopify", "SHOPIFY_SHOP", "evil.example#"
    yield "woocommerce", "WOOCOMMERCE_URL", "http://small.example"
    yield "woocommerce", "WOOCOMMERCE_URL", "https://169.254.169.254"
    yield "woocommerce", "WOOCOMMERCE_URL", "https://shop.internal"
    yield "stripe", "STRIPE_API_KEY", "two\nlines"


@pytest.mark.parametrize(("provider", "name", "value"), list(_bad()))
def test_what_the_environment_holds_leads_to_the_provider_and_nowhere_else(provider: str, name: str, value: str):
    assert access(provider, ENVIRONMENT).base.startswith("https://")
    with pytest.raises(NoAccessError, match=name):
        access(provider, {**ENVIRONMENT, name: value})
    with pytest.raises(NoAccessError, match=f"{name} must be in the environment"):
        access(provider, {**ENVIRONMENT, name: ""})
