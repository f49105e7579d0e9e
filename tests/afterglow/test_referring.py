"""What referral programmes decide: whose friend somebody is, whether that counts, what speaks against it, who gets."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import permutations
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afterglow import ROOT
from afterglow.language.referral import METHODS, ReferralProgramme, read_referral
from afterglow.language.source import read_source
from afterglow.mapping import Mapped, elements, map_element
from afterglow.problems import Problems
from afterglow.referring import fraud, likeness, qualification
from afterglow.referring.attribution import Sign, Touch, attributed, signs
from afterglow.referring.fraud import Facts, Party, Verdict, judge, ring
from afterglow.referring.rewarding import Side, Tally, grants, lost, period
from tests.examples import examples

PARIS = ZoneInfo("Europe/Paris")
NOW = datetime(2026, 3, 2, 8, tzinfo=UTC)
SMALL = """\
programme: friends
kind: referral
about: Give 10, get 10
qualifies: {on: order.paid, when: order.total >= 20, undone_by: order.refunded, hold: 14 days}
rewards:
  referrer: {programme: beans, points: 500}
  referee: {coupon: welcome-10}
"""


def programme(text: str = "", **replaced: str) -> ReferralProgramme:
    whole = SMALL + text
    for old, new in replaced.items():
        whole = whole.replace(old.replace("_", " "), new)
    return read_referral(whole, "friends.yaml")


def problems(text: str) -> list[str]:
    with pytest.raises(Problems) as caught:
        read_referral(text, "friends.yaml")
    return [str(problem) for problem in caught.value.problems]


# The file


def test_a_programme_needs_little():
    made = programme()

    assert made.name == "friends"
    assert made.methods == METHODS
    assert made.first_purchase
    assert made.undone_by == {"order.refunded"}
    assert made.after_reward == "review"
    assert made.cap is None
    assert made.referrer is not None
    assert (made.referrer.asset, made.referrer.amount, made.referrer.programme) == ("points", 500, "beans")
    assert made.referee is not None
    assert made.referee.coupon == "welcome-10"


def test_everything_that_is_wrong_is_said_at_once_with_its_place():
    text = """\
programme: friends
kind: referral
about: x
attribution: {by: [code, code], window: soon}
qualifies: {on: order.paid, when: order.total >=, undone_by: order.paid}
rewards:
  referrer: {points: 5}
  milestones: [{at: 5, referrer: {coupon: a, points: 1}}, {at: 3, referrer: {programme: b, coupon: a}}]
fraud: {review_from: 90, reject_from: 40}
"""
    told = [line.removeprefix("friends.yaml:") for line in problems(text)]

    assert [line.split(": ", 1)[0] for line in told] == [
        "4:19",
        "4:41",
        "5:47",
        "5:62",
        "7:13",
        "8:15",
        "8:34",
        "8:89",
        "9:39",
    ]


def test_an_unknown_key_is_refused_with_the_one_that_was_meant():
    assert "Did you mean 'qualifies'?" in "".join(problems(SMALL.replace("qualifies", "qualifys")))


# Attribution


@pytest.mark.parametrize(
    ("payload", "found"),
    [
        ({}, []),
        ({"order": None, "referral": 3}, []),
        ({"referral": {"code": " ab12-cd34-e "}}, [Sign("code", "AB12-CD34-E")]),
        ({"order": {"codes": ["summer", 3, "", "SUMMER"]}}, [Sign("discount", "SUMMER")]),
        ({"order": {"landing": "/?ref=ab&utm=x"}}, [Sign("landing", "AB")]),
        (
            {"order": {"landing": "https://s.example/a?ref=AB&ref_click=tok_1"}},
            [Sign("landing", "AB"), Sign("click", "tok_1")],
        ),
        ({"referral": {"click": "tok"}}, [Sign("click", "tok")]),
        ({"order": {"landing": "http://[broken?ref=a"}}, []),
        ({"referral": {"code": "x" * 41}, "order": {"codes": "AB"}}, []),
    ],
)
def test_signs_are_read_from_a_payload(payload, found):
    assert signs(payload) == found


@given(
    st.dictionaries(
        st.sampled_from(["order", "referral"]),
        st.dictionaries(
            st.sampled_from(["code", "codes", "landing", "click"]),
            st.text() | st.lists(st.text()) | st.integers() | st.none(),
        ),
    )
)
def test_whatever_stands_in_a_payload_only_short_signs_come_out(payload):
    assert all(0 < len(sign.text) <= 40 for sign in signs(payload))


def touch(id_: int, days: float = 0, *, method="code", referrer: int = 7, made: float = -100) -> Touch:
    return Touch(
        id=id_,
        programme="friends",
        referrer=referrer,
        method=method,
        at=NOW + timedelta(days=days),
        code_made_at=NOW + timedelta(days=made),
    )


def whose(made: ReferralProgramme, *touches: Touch, days: float = 1) -> int | None:
    found = attributed(made, touches, customer=1, at=NOW + timedelta(days=days), zone=PARIS)
    return found.id if found else None


def test_the_way_that_is_named_first_beats_an_earlier_touch_of_another():
    click, discount = touch(1, 0, method="click"), touch(2, 0.5, method="discount")

    assert whose(programme(), click, discount) == 2
    assert whose(programme("attribution: {by: [click, discount]}\n"), click, discount) == 1
    assert whose(programme("attribution: {by: [code]}\n"), click, discount) is None


def test_of_touches_of_one_way_the_first_or_the_last_counts():
    touches = touch(3, 0), touch(4, 0.5), touch(5, 0.5)

    assert whose(programme(), *touches) == 3
    assert whose(programme("attribution: {touch: last}\n"), *touches) == 4


def test_the_window_is_half_open():
    # 30 days on the shop's calendar; the clocks went forward meanwhile.
    assert whose(programme(), touch(1), days=30 - 1 / 24) is None
    assert whose(programme(), touch(1), days=30 - 1 / 24 - 1e-6) == 1
    assert whose(programme(), touch(1, 2), days=1) is None, "a touch after the event"
    assert whose(programme(), touch(1), touch(2, 5), days=30) == 2, "the older one is too old, the younger counts"


def test_a_touch_before_the_code_existed_and_ones_own_code_do_not_count():
    assert whose(programme(), touch(1, made=0.5)) is None
    assert whose(programme(), touch(1, made=0)) == 1
    assert whose(programme(), touch(1, referrer=1)) is None
    assert whose(programme(), touch(1, referrer=1), touch(2, 0.5)) == 2


@settings(max_examples=examples(60))
@given(
    st.lists(
        st.tuples(st.integers(-40, 5), st.sampled_from(METHODS), st.integers(1, 3), st.integers(-60, 5)), max_size=4
    ),
    st.sampled_from(["first", "last"]),
)
def test_the_order_of_arrival_never_decides(given_touches, which):
    made = programme(f"attribution: {{touch: {which}}}\n")
    touches = [touch(n, d, method=m, referrer=r, made=c) for n, (d, m, r, c) in enumerate(given_touches, 1)]

    assert len({whose(made, *order, days=0) for order in permutations(touches)}) == 1


# Qualification


def names(total: object) -> dict[str, object]:
    return {"order": {"id": "o1", "total": total}}


def refund(amount: object) -> dict[str, object]:
    return {"order": {"id": "o1"}, "refund": {"amount": amount}}


@pytest.mark.parametrize(
    ("total", "refunds", "qualifies", "net"),
    [
        (20, [], True, 20),
        (Decimal("19.99"), [], False, Decimal("19.99")),
        (50, [refund(10), refund(Decimal("20"))], True, 20),
        (50, [refund(10), refund(Decimal("20.01"))], False, Decimal("19.99")),
        (50, [refund(50)], False, 0),
        (50, [refund(80)], False, 0),
        (50, [{"order": {"id": "o1"}}], False, 0),
        (None, [], False, 0),
    ],
)
def test_an_order_counts_as_long_as_what_is_left_of_it_does(total, refunds, qualifies, net):
    standing = qualification.standing(programme(), names(total), refunds)

    assert (standing.qualifies, standing.net) == (qualifies, net)


def test_without_a_condition_an_order_counts_until_nothing_is_left():
    made = read_referral(SMALL.replace("when: order.total >= 20, ", ""), "friends.yaml")

    assert qualification.standing(made, names(1)).qualifies
    assert qualification.standing(made, names(50), [refund(49)]).qualifies
    assert not qualification.standing(made, names(50), [refund(49), refund(1)]).qualifies


@settings(max_examples=examples(50))
@given(st.lists(st.integers(1, 30), max_size=4).flatmap(lambda one: st.tuples(st.just(one), st.permutations(one))))
def test_refunds_come_to_the_same_in_any_order(amounts):
    first, second = ([refund(one) for one in order] for order in amounts)

    assert qualification.standing(programme(), names(60), first) == qualification.standing(
        programme(), names(60), second
    )


def test_the_hold_counts_days_in_the_shops_zone():
    assert qualification.rewarded_from(programme(), datetime(2026, 3, 20, 9, tzinfo=UTC), PARIS) == datetime(
        2026, 4, 3, 8, tzinfo=UTC
    )


# Fraud

LIMITS = programme().fraud
ANN = Party(customer=7, email="ann.lee@example.com", phone="+33612345678", name="Ann Lee")
BOB = Party(customer=9, email="bob@other.example", phone="+33687654321", name="Bob Ray")


def facts(referrer: Party = ANN, referee: Party = BOB, **known: object) -> Facts:
    return Facts(referrer=referrer, referee=referee, **known)  # type: ignore[arg-type]


def rules(judgement: fraud.Judgement) -> list[str]:
    return [finding.rule for finding in judgement.findings]


def test_two_strangers_pass():
    judgement = judge(facts(), LIMITS)

    assert (judgement.verdict, judgement.score, judgement.findings) == (Verdict.PASS, 0, ())


@pytest.mark.parametrize(
    ("known", "rule"),
    [
        (facts(referee=Party(customer=7)), "same-customer"),
        (facts(referee=Party(customer=9, email="ann.lee+1@example.com")), "same-email"),
        (facts(referee=Party(customer=9, phone="+33612345678")), "same-phone"),
        (facts(orders_before=1), "existing-customer"),
        (facts(known_as=3), "known-by-another-spelling"),
        (facts(was_forgotten=True), "was-forgotten"),
        (facts(referred_before=4), "already-referred"),
    ],
)
def test_a_rule_about_who_somebody_is_rejects(known, rule):
    judgement = judge(known, LIMITS)

    assert judgement.verdict is Verdict.REJECT
    assert rule in rules(judgement)


@pytest.mark.parametrize(
    ("known", "score", "verdict"),
    [
        (facts(referee=Party(customer=9, name="Ánn  LEE")), 20, "pass"),
        (facts(referee=Party(customer=9, email="annlee77@mail.example")), 20, "pass"),
        (facts(referee=Party(customer=9, email="x@mail.yopmail.com")), 30, "pass"),
        (facts(share_address=1), 40, "review"),
        (facts(share_payment=2), 50, "review"),
        (facts(share_payment=2, share_address=1), 90, "reject"),
        (facts(ring=2), 50, "review"),
        (facts(in_a_day=11), 25, "review"),
        (facts(in_a_day=10), 0, "pass"),
        (facts(undone=3, settled=4), 25, "pass"),
        (facts(undone=3, settled=3), 0, "pass"),
        (facts(click_to_order=timedelta(seconds=29)), 20, "pass"),
        (facts(click_to_order=timedelta(seconds=-1)), 0, "pass"),
        (facts(click_to_order=timedelta(seconds=30)), 0, "pass"),
    ],
)
def test_other_signs_add_up_and_the_limits_decide(known, score, verdict):
    judgement = judge(known, LIMITS)

    assert (judgement.score, judgement.verdict.value) == (score, verdict)


words = st.none() | st.text(max_size=20)
parties = st.builds(Party, customer=st.integers(1, 3), email=st.none() | st.emails(), phone=words, name=words)
every = st.builds(
    Facts,
    referrer=parties,
    referee=parties,
    orders_before=st.integers(-1, 2),
    in_a_day=st.integers(1, 30),
    share_address=st.integers(0, 2),
    share_payment=st.integers(0, 2),
    undone=st.integers(0, 9),
    settled=st.integers(0, 9),
    ring=st.integers(0, 5),
)


@settings(max_examples=examples(80))
@given(every)
def test_the_evidence_holds_numbers_and_no_texts_of_people(known):
    evidence = judge(known, LIMITS).evidence()

    assert evidence.keys() == {"verdict", "score", "rules"}
    assert isinstance(evidence["rules"], dict)
    assert all(type(number) is int for rule in evidence["rules"].values() for number in rule.values())


@settings(max_examples=examples(80))
@given(every)
def test_one_sign_more_never_makes_a_verdict_milder(known):
    order = [Verdict.PASS, Verdict.REVIEW, Verdict.REJECT]
    worse = replace(known, share_payment=1, ring=2, was_forgotten=True)

    assert order.index(judge(worse, LIMITS).verdict) >= order.index(judge(known, LIMITS).verdict)


@pytest.mark.parametrize(
    ("parents", "people"),
    [({}, 0), ({7: 9}, 2), ({7: 5, 5: 9}, 3), ({7: 5, 5: 7}, 0), ({7: 6, 6: 5, 5: 4, 4: 3, 3: 9}, 0)],
)
def test_a_ring_is_found_up_to_five_people(parents, people):
    assert ring(parents, referrer=7, referee=9) == people


@pytest.mark.parametrize(
    ("address", "one"),
    [
        ("Sam.Vimes+shop@GoogleMail.com", "samvimes@gmail.com"),
        ("sam.vimes@example.com", "sam.vimes@example.com"),
        ("sam+a+b@example.com", "sam@example.com"),
        ("+a@example.com", "+a@example.com"),
        ("...@gmail.com", "...@gmail.com"),
    ],
)
def test_a_mailbox_has_one_canonical_spelling(address, one):
    assert likeness.canonical(address) == one
    assert likeness.canonical(one) == one


# Rewards


def tally(rewarded: int = 0, in_period: int = 0, standing=(), generations=None) -> Tally:
    return Tally(
        rewarded=rewarded, in_period=in_period, standing=frozenset(standing), generations=dict(generations or {})
    )


CAPPED = "caps: {referrer: 2, per: month}\n"
MILESTONES = """\
  milestones:
    - {at: 2, referrer: {programme: beans, points: 100}}
    - {at: 4, referrer: {programme: beans, points: 300}}
"""


def test_a_cap_cuts_the_referrer_off_and_says_so_and_leaves_the_referee_theirs():
    made = grants(programme(CAPPED), referrer=7, referee=9, tally=tally(2, 2))

    assert [(one.side, one.customer, one.given) for one in made] == [
        (Side.REFERRER, 7, False),
        (Side.REFEREE, 9, True),
    ]


@settings(max_examples=examples(100))
@given(st.lists(st.sampled_from(["reward", "undo"]), max_size=25))
def test_milestones_stand_exactly_while_they_are_reached_and_have_generations(steps):
    made = programme(MILESTONES)
    rewarded, standing, generations = 0, set(), {}
    for step in steps:
        if step == "reward":
            for grant in grants(made, referrer=7, referee=9, tally=tally(rewarded, 0, standing, generations)):
                if grant.side is Side.MILESTONE:
                    assert grant.generation == generations.get(grant.milestone, 0) + 1
                    generations[grant.milestone] = grant.generation
                    standing.add(grant.milestone)
            rewarded += 1
        elif rewarded:
            rewarded -= 1
            standing -= set(lost(standing, rewarded))
        assert standing == {at for at in (2, 4) if at <= rewarded}


@pytest.mark.parametrize(
    ("per", "begins", "ends"),
    [
        ("day", (2026, 3, 28, 23), (2026, 3, 29, 22)),
        ("week", (2026, 3, 22, 23), (2026, 3, 29, 22)),
        ("month", (2026, 2, 28, 23), (2026, 3, 31, 22)),
        ("year", (2025, 12, 31, 23), (2026, 12, 31, 23)),
    ],
)
def test_a_period_is_of_the_shops_calendar(per, begins, ends):
    found = period(datetime(2026, 3, 29, 12, tzinfo=UTC), per, PARIS)

    assert found == (datetime(*begins, tzinfo=UTC), datetime(*ends, tzinfo=UTC))


def test_for_ever_has_no_period():
    assert period(NOW, "ever", PARIS) is None


# What the shipped sources bring


@pytest.mark.parametrize(
    ("name", "payload", "change", "headers"),
    [
        (
            "shopify",
            "orders-paid",
            lambda body, address: body.update(landing_site=address),
            {"x-shopify-topic": "orders/paid", "x-shopify-event-id": "1"},
        ),
        (
            "woocommerce",
            "order.updated.processing",
            lambda body, address: body["meta_data"].append(
                {"id": 1, "key": "_wc_order_attribution_session_entry", "value": address}
            ),
            {"x-wc-webhook-topic": "order.updated", "x-wc-webhook-delivery-id": "1"},
        ),
    ],
)
@pytest.mark.parametrize(
    ("address", "ways"), [("/friends?ref=AB12&ref_click=tok", ["landing", "click"]), ("/?utm_source=x", [])]
)
def test_a_shops_orders_bring_discount_codes_and_the_landing_address_of_a_link(
    name, payload, change, headers, address, ways
):
    body = json.loads((ROOT / f"tests/payloads/{name}/{payload}.json").read_text())
    change(body, address)
    source = read_source((ROOT / f"flows/sources/{name}.yaml").read_text(), name)
    mapped = [
        map_element(source, headers, element.body, received_at=NOW)
        for element in elements(source, headers, json.dumps(body).encode())
    ]
    paid = next(one for one in mapped if isinstance(one, Mapped) and one.event == "order.paid")

    found = signs(paid.payload)
    assert Sign("discount", "FRIEND-7QK2") in found
    assert [sign.method for sign in found if sign.method != "discount"] == ways
