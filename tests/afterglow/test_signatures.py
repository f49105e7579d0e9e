"""Signatures: held against somebody else's implementation, and nothing but BadSignature comes out."""

import base64
import hmac
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from afterglow.signatures import SCHEMES, TOLERANCE, BadSignature, is_ping, secret_problem, sign, verify
from tests.bad_signatures import BODY, OTHERS, SECRETS, UNSIGNED_BODY, UNTIMED, WHSEC, forged

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
#: The address that was posted to, as the provider knows it.
HOOK = "https://shop.example/hooks/one"
TIMED = sorted(SCHEMES.keys() - UNTIMED)
SIGNING = sorted(SCHEMES.keys() - UNSIGNED_BODY)
#: Headers that a provider sends beside what `verify` reads.
BESIDE = {"x-shopify-event-id", "x-shopify-webhook-id", "x-wc-webhook-delivery-id"}


@pytest.fixture(params=sorted(SCHEMES))
def scheme(request):
    return request.param


def signed(scheme, body=BODY, now=NOW, secret=None):
    return sign(scheme, secret or SECRETS[scheme], body, now, "msg_1", uri=HOOK)


def test_every_scheme_of_the_table_is_tried_here():
    assert SECRETS.keys() == OTHERS.keys() == SCHEMES.keys()


def test_what_a_source_signs_is_accepted(scheme):
    verify(scheme, [SECRETS[scheme]], signed(scheme), BODY, NOW, uri=HOOK)
    verify(scheme, [SECRETS[scheme].encode()], signed(scheme), BODY, NOW, uri=HOOK)


def test_both_secrets_count_while_one_replaces_the_other(scheme):
    both = [OTHERS[scheme], SECRETS[scheme]]

    verify(scheme, both, signed(scheme), BODY, NOW, uri=HOOK)
    verify(scheme, both, signed(scheme, secret=OTHERS[scheme]), BODY, NOW, uri=HOOK)


def test_another_secret_is_refused(scheme):
    with pytest.raises(BadSignature, match="does not match"):
        verify(scheme, [OTHERS[scheme]], signed(scheme), BODY, NOW, uri=HOOK)


@pytest.mark.parametrize("scheme", SIGNING)
def test_a_changed_body_is_refused(scheme):
    headers = signed(scheme)
    for changed in (BODY + b" ", BODY[:-1], b"", BODY.replace(b"1", b"2")):
        with pytest.raises(BadSignature):
            verify(scheme, [SECRETS[scheme]], headers, changed, NOW, uri=HOOK)


@pytest.mark.parametrize("secrets", [[], [""], [b""]])
def test_without_a_secret_nothing_is_accepted(scheme, secrets):
    with pytest.raises(BadSignature, match="no usable secret"):
        verify(scheme, secrets, signed(scheme), BODY, NOW, uri=HOOK)


def test_an_unknown_scheme_is_refused_with_a_suggestion():
    with pytest.raises(BadSignature, match=r"Did you mean 'stripe'\?"):
        verify("strpie", ["x"], {}, BODY, NOW)
    with pytest.raises(ValueError, match="Did you mean 'shopify'"):
        sign("shopfy", "x", BODY, NOW, "msg_1")


@pytest.mark.parametrize("scheme", TIMED)
@pytest.mark.parametrize("off_by", [-TOLERANCE, -timedelta(minutes=1), TOLERANCE])
def test_a_signature_of_the_last_and_next_five_minutes_is_accepted(scheme, off_by):
    verify(scheme, [SECRETS[scheme]], signed(scheme, now=NOW + off_by), BODY, NOW, uri=HOOK)


@pytest.mark.parametrize("scheme", TIMED)
@pytest.mark.parametrize("off_by", [-TOLERANCE - timedelta(seconds=1), TOLERANCE + timedelta(seconds=1)])
def test_an_older_or_later_signature_is_refused_and_says_by_how_much(scheme, off_by):
    with pytest.raises(BadSignature, match="301 seconds"):
        verify(scheme, [SECRETS[scheme]], signed(scheme, now=NOW + off_by), BODY, NOW, uri=HOOK)


def test_shopify_signs_no_moment_so_an_old_body_is_accepted():
    verify("shopify", [SECRETS["shopify"]], signed("shopify"), BODY, NOW + timedelta(days=400))


def test_a_repeated_moment_cannot_smuggle_a_fresh_one_past_a_stale_signature():
    old = signed("stripe", now=NOW - timedelta(days=1))["stripe-signature"]
    fresh = f"t={int(NOW.timestamp())},{old}"
    with pytest.raises(BadSignature, match="one moment"):
        verify("stripe", [SECRETS["stripe"]], {"stripe-signature": fresh}, BODY, NOW)


def test_stripe_counts_any_v1_and_never_v0():
    good = signed("stripe")["stripe-signature"]
    moment, _, signature = good.partition(",v1=")

    several = f"{moment},v1={'0' * 64},v1={signature}"
    verify("stripe", [SECRETS["stripe"]], {"stripe-signature": several}, BODY, NOW)
    with pytest.raises(BadSignature, match="no signature"):
        verify("stripe", [SECRETS["stripe"]], {"stripe-signature": f"{moment},v0={signature}"}, BODY, NOW)


def test_standard_webhooks_counts_any_v1_and_never_another_version():
    headers = signed("standard_webhooks")
    wrong = base64.b64encode(b"0" * 32).decode()
    several = headers | {"webhook-signature": f"v1,{wrong} v1a,{wrong} {headers['webhook-signature']}"}
    other_version = headers | {"webhook-signature": headers["webhook-signature"].replace("v1,", "v2,")}

    verify("standard_webhooks", [WHSEC], several, BODY, NOW)
    with pytest.raises(BadSignature, match="no signature"):
        verify("standard_webhooks", [WHSEC], other_version, BODY, NOW)


def test_a_flood_of_signatures_is_not_compared():
    headers = signed("standard_webhooks")
    headers["webhook-signature"] = "v1,AA== " * 17 + headers["webhook-signature"]
    with pytest.raises(BadSignature, match="more than 16"):
        verify("standard_webhooks", [WHSEC], headers, BODY, NOW)


def test_the_id_is_signed_too():
    with pytest.raises(BadSignature):
        verify("standard_webhooks", [WHSEC], signed("standard_webhooks") | {"webhook-id": "msg_2"}, BODY, NOW)


def test_shopify_signs_as_its_documentation_says():
    by_hand = base64.b64encode(hmac.new(b"hush", BODY, "sha256").digest()).decode()
    verify("shopify", ["hush"], {"x-shopify-hmac-sha256": by_hand}, BODY, NOW)


def test_stripe_signs_as_its_documentation_says():
    by_hand = hmac.new(b"whsec_test", b"1772442000." + BODY, "sha256").hexdigest()
    assert int(NOW.timestamp()) == 1772442000
    verify("stripe", ["whsec_test"], {"stripe-signature": f"t=1772442000,v1={by_hand}"}, BODY, NOW)


def test_woocommerce_signs_as_its_code_does():
    by_hand = base64.b64encode(hmac.new(b"hush", BODY, "sha256").digest()).decode()
    verify("woocommerce", ["hush"], {"x-wc-webhook-signature": by_hand}, BODY, NOW)


def test_judgeme_signs_in_hex():
    by_hand = hmac.new(b"hush", BODY, "sha256").hexdigest()
    verify("judgeme", ["hush"], {"judgeme-hmac-sha256": by_hand}, BODY, NOW)


@pytest.mark.parametrize("kind", ["Basic", "basic", "BASIC"])
def test_basic_is_user_and_password_as_rfc_7617_writes_them(kind):
    # the example of RFC 7617, section 2
    header = {"authorization": f"{kind} QWxhZGRpbjpvcGVuIHNlc2FtZQ=="}
    verify("basic", ["Aladdin:open sesame"], header, b"any body", NOW)
    with pytest.raises(BadSignature, match="does not match"):
        verify("basic", ["Aladdin:open"], header, b"any body", NOW)


@pytest.mark.parametrize(
    "value", ["Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Basic", "Basic ", "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="]
)
def test_what_is_no_basic_header_is_named(value):
    with pytest.raises(BadSignature, match="user and a password"):
        verify("basic", ["Aladdin:open sesame"], {"authorization": value}, BODY, NOW)


@pytest.mark.parametrize("secret", ["", "afterglow", ":password", "user:", ":"])
def test_a_login_without_user_or_password_is_none(secret):
    assert "user:password" in (secret_problem("basic", secret) or "")
    header = {"authorization": f"Basic {base64.b64encode(secret.encode()).decode()}"}
    with pytest.raises(BadSignature):
        verify("basic", [secret], header, BODY, NOW)


def test_only_woocommerce_asks_unsigned_whether_somebody_is_there():
    assert is_ping("woocommerce", b"webhook_id=1")
    assert not any(is_ping(scheme, b"webhook_id=1") for scheme in SCHEMES if scheme != "woocommerce")
    for other in (
        b"",
        b"webhook_id=",
        b"webhook_id=1&x=2",
        b"webhook_id=1\n",
        b"webhook_id=a",
        b"{}",
        b"webhook_id=" + b"1" * 13,
    ):
        assert not is_ping("woocommerce", other)


@given(body=st.text(), key=st.binary(min_size=1, max_size=64), message=st.text("abcXYZ019_-.", min_size=1))
def test_the_standard_library_of_standard_webhooks_agrees(body, key, message):
    secret = "whsec_" + base64.b64encode(key).decode()
    theirs = Webhook(secret)
    now = datetime.now(UTC)  # their library reads the clock itself

    ours = sign("standard_webhooks", secret, body.encode(), now, message)
    # Their `verify` also parses the body, so the signatures are compared as text.
    assert ours["webhook-signature"] == theirs.sign(message, now, body)
    verify("standard_webhooks", [secret], ours, body.encode(), now)


def test_their_library_accepts_what_we_sign():
    now = datetime.now(UTC)
    headers = sign("standard_webhooks", WHSEC, BODY, now, "msg_1")
    assert Webhook(WHSEC).verify(BODY, headers) == json.loads(BODY)


MALFORMED = ["", " ", ",", "=", "é", "ÿ" * 10, "t=", "t=1,v1=", "\x00", "v1,", "🙂", "a" * 5000]
ARABIC_DIGITS = "\u0661\u0667"


@pytest.mark.parametrize("value", MALFORMED)
def test_a_malformed_header_is_a_bad_signature(scheme, value):
    good = signed(scheme)
    for name in good.keys() - BESIDE:
        with pytest.raises(BadSignature) as caught:
            verify(scheme, [SECRETS[scheme]], good | {name: value}, BODY, NOW, uri=HOOK)
        assert str(caught.value).endswith(".")
        missing = {other: text for other, text in good.items() if other != name}
        with pytest.raises(BadSignature, match="missing"):
            verify(scheme, [SECRETS[scheme]], missing, BODY, NOW, uri=HOOK)


@pytest.mark.parametrize(
    "moment", ["-1", "1e9", ARABIC_DIGITS, "9" * 13, "999999999999", "1772442000.5", " 1772442000", "0x1"]
)
@pytest.mark.parametrize("scheme", TIMED)
def test_a_malformed_moment_is_a_bad_signature(scheme, moment):
    good = signed(scheme)
    name = {"standard_webhooks": "webhook-timestamp", "hubspot_v3": "x-hubspot-request-timestamp"}.get(
        scheme, "stripe-signature"
    )
    value = f"t={moment},v1={'0' * 64}" if scheme == "stripe" else moment
    with pytest.raises(BadSignature):
        verify(scheme, [SECRETS[scheme]], good | {name: value}, BODY, NOW, uri=HOOK)


@given(st.data())
def test_no_header_and_no_body_raises_anything_else(data):
    scheme = data.draw(st.sampled_from(sorted(SCHEMES)))
    names = sorted(signed(scheme))
    texts = st.text(max_size=200) | st.from_regex(r"(t=\d{1,15},)?v1[,=][A-Za-z0-9+/=]{0,90}", fullmatch=True)
    headers = {name: data.draw(texts) for name in names if data.draw(st.booleans())}
    secrets = data.draw(st.lists(st.text(st.characters(codec="utf-8")) | st.binary(), max_size=3))
    with pytest.raises(BadSignature):
        verify(scheme, secrets, headers, data.draw(st.binary()), NOW, uri=HOOK)


@given(st.data())
def test_one_flipped_bit_anywhere_is_refused(data):
    scheme = data.draw(st.sampled_from(SIGNING))
    place = data.draw(st.integers(0, len(BODY) * 8 - 1))
    flipped = bytearray(BODY)
    flipped[place // 8] ^= 1 << place % 8
    with pytest.raises(BadSignature):
        verify(scheme, [SECRETS[scheme]], signed(scheme), bytes(flipped), NOW, uri=HOOK)


def test_a_secret_that_is_none_is_named_before_the_first_webhook():
    assert secret_problem("standard_webhooks", WHSEC) is None
    assert secret_problem("standard_webhooks", "whsec_é") is not None
    assert "whsec_" in (secret_problem("standard_webhooks", "not base64!") or "")
    assert secret_problem("shopify", "anything") is None


def test_a_broken_secret_does_not_shadow_a_good_one():
    verify("standard_webhooks", ["not base64!", WHSEC], signed("standard_webhooks"), BODY, NOW)


def test_no_reason_tells_the_secret_or_the_right_signature():
    for scheme in SIGNING:
        secret, good = SECRETS[scheme], signed(scheme)
        with pytest.raises(BadSignature) as caught:
            verify(scheme, [secret], good, BODY + b"x", NOW, uri=HOOK)
        expected = sign(scheme, secret, BODY + b"x", NOW, "msg_1", uri=HOOK)
        assert secret not in str(caught.value)
        assert not any(value in str(caught.value) for value in expected.values())


# Every way in which a request can be forged


def refusal(scheme, one):
    """What is said to a forged request; None if it was let through."""
    uri = f"{HOOK}?{one.query}" if one.query else HOOK
    try:
        verify(scheme, [SECRETS[scheme]], one.headers, one.body, NOW, uri=uri)
    except BadSignature as error:
        return str(error)
    return None


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_whatever_was_forged_is_refused_in_one_sentence(scheme):
    tried = list(forged(scheme, NOW, HOOK))

    assert len({(*sorted(one.headers.items()), one.body, one.query) for one in tried}) >= 40
    assert [one.why for one in tried if not (refusal(scheme, one) or "").endswith(".")] == []


# HubSpot


def test_hubspot_signs_as_the_example_in_its_documentation():
    body = (
        b'[{"eventId":531833541,"subscriptionId":3923621,"portalId":48807704,"appId":16111050,'
        b'"occurredAt":1752613920733,"subscriptionType":"contact.creation","attemptNumber":0,'
        b'"objectId":138017612137,"changeFlag":"CREATED","changeSource":"CRM_UI","sourceId":"userId:76023669"}]'
    )
    headers = {
        "x-hubspot-signature-v3": "gbj1XPRvUt0noT7i7fXfTzOD4sLzQmf0VT28ZYq0EYg=",
        "x-hubspot-request-timestamp": "1752613922216",
    }
    uri = "https://webhook.site/335453f5-94b3-49d9-b684-a55354d4b8df"
    then = datetime.fromtimestamp(1752613922.216, UTC)

    verify("hubspot_v3", ["cfc68c0b-4b4e-4ef8-b764-95350e4ea479"], headers, body, then, uri=uri)


def test_hubspot_decodes_a_few_escapes_of_the_address_and_no_others():
    secret = SECRETS["hubspot_v3"]
    for posted, as_signed in (
        ("?q=%3A%2F%3F%40%21%24%27%28%29%2A%2C%3B", "?q=:/?@!$'()*,;"),
        ("?q=%3a%2f", "?q=:/"),
        ("?a=1&q=%20%26%3D%25", "?a=1&q=%20%26%3D%25"),
        ("?q=%253A", "?q=%253A"),
    ):
        text = f"POST{HOOK}{as_signed}".encode() + BODY + b"1772442000000"
        by_hand = base64.b64encode(hmac.digest(secret.encode(), text, "sha256")).decode()
        headers = {"x-hubspot-signature-v3": by_hand, "x-hubspot-request-timestamp": "1772442000000"}
        verify("hubspot_v3", [secret], headers, BODY, NOW, uri=HOOK + posted)


# Segment


def test_segment_signs_as_its_documentation_says():
    by_hand = hmac.new(b"sharedsecretvalue", BODY, "sha1").hexdigest()
    verify("segment", ["sharedsecretvalue"], {"x-signature": by_hand}, BODY, NOW)


# A secret that is shown


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({"x-afterglow-secret": "{}"}, ""),
        ({"authorization": "Bearer {}"}, ""),
        ({"authorization": "bearer  {} "}, ""),
        ({}, "?key={}"),
        ({}, "?a=1&key={}&b=2"),
        ({"authorization": "Basic eDp5"}, "?key={}"),
    ],
)
def test_a_shared_secret_is_shown_in_a_header_or_in_the_address(headers, query):
    secret = SECRETS["shared_secret"]
    shown = {name: value.format(secret) for name, value in headers.items()}
    verify("shared_secret", [secret], shown, b"anything", NOW, uri=HOOK + query.format(secret))


def test_a_shared_secret_may_stand_in_the_address_with_escapes():
    secret = "ab+/=&%0123456789"
    verify("shared_secret", [secret], {}, BODY, NOW, uri=HOOK + "?key=ab%2B%2F%3D%26%250123456789")
    verify("shared_secret", ["ab+/=0123456789ab"], {}, BODY, NOW, uri=HOOK + "?key=ab+/=0123456789ab")


def test_a_shared_secret_that_can_be_guessed_is_none():
    assert "16 characters" in (secret_problem("shared_secret", "short") or "")
    assert "16 characters" in (secret_problem("shared_secret", "é" * 20) or "")
    assert secret_problem("shared_secret", SECRETS["shared_secret"]) is None
    with pytest.raises(BadSignature, match="no usable secret"):
        verify("shared_secret", ["short"], {"x-afterglow-secret": "short"}, BODY, NOW, uri=HOOK)
