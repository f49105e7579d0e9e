"""Tests in flow files: how they are read, what they prove, and what a failure says."""

import json
from typing import Any

import pytest

from afterglow.language.catalog import compile_files, read_documents
from afterglow.language.check import check_files
from afterglow.language.flow.compiler import read_flow
from afterglow.language.testing import without_tests
from afterglow.problems import Problems
from afterglow.testing import Lived, ShopUnderTest, Verdict, judge, live
from afterglow.testing.memory import CannotLiveError
from afterglow.testing.report import comparison, reasons, sentence
from tests import small_shop
from tests.driver import shop_files

PAID = {"at": "2026-03-02 09:00", "event": "order.paid", "order": {"id": "o1", "total": 40}}
STEPS = [{"send": "email/receipt"}, {"id": "pause", "wait": "2 days", "at": "10:00"}, {"send": "email/note"}]
RECEIPT = {"at": "2026-03-02 09:00", "send": "email/receipt"}
NOTE = {"at": "2026-03-04 10:00", "send": "email/note"}


def lived(
    test: dict[str, Any], *others: str, steps: Any = STEPS, shop: Any = None, **flow: Any
) -> tuple[Lived, Verdict]:
    """A test of a small flow, lived and judged."""
    text = small_shop.flow("kept", steps, tests=[{"name": "a test", **test}], **flow)
    documents = small_shop.documents(text, *others, **(shop or {}))
    tried = ShopUnderTest(catalog=read_documents({(one.kind, one.name): one.body for one in documents}))
    tested = tried.catalog.flows["kept"]
    came = live(tried, tested, tested.tests[0])
    return came, judge(tested.tests[0], came)


def is_kept(test: dict[str, Any], *others: str, **rest: Any) -> bool:
    return lived(test, *others, **rest)[1].is_kept


def test_what_comes_as_expected_is_kept():
    assert is_kept({"timeline": [PAID], "expect": [RECEIPT, NOTE]})
    assert is_kept({"timeline": [PAID], "expect": [NOTE, RECEIPT]})  # in any order


@pytest.mark.parametrize(
    "expect",
    [
        [RECEIPT],
        [RECEIPT, NOTE, NOTE],
        [RECEIPT, {**NOTE, "at": "2026-03-04 10:01"}],
        [RECEIPT, {**NOTE, "send": "email/news"}],
        [],
    ],
)
def test_a_mail_that_is_missing_or_one_too_many_is_a_failure(expect):
    assert not is_kept({"timeline": [PAID], "expect": expect})


def test_ends_are_compared_as_soon_as_one_is_listed():
    finished = {"at": "2026-03-04 10:00", "finished": "kept"}

    assert is_kept({"timeline": [PAID], "expect": [RECEIPT, NOTE, finished]})
    assert not is_kept({"timeline": [PAID], "expect": [RECEIPT, NOTE, {**finished, "at": "2026-03-02 09:00"}]})


def test_never_holds_whenever_it_happens_and_lets_all_else_be():
    assert is_kept({"timeline": [PAID], "never": [{"send": "email/news"}]})
    assert not is_kept({"timeline": [PAID], "never": [{"send": "email/note"}]})


def test_a_customer_of_a_test_has_agreed_unless_it_says_otherwise():
    skipped = {"at": "2026-03-04 10:00", "skipped": "email/note"}

    assert is_kept({"customer": {"consent": "none"}, "timeline": [PAID], "expect": [RECEIPT, skipped]})
    assert is_kept({"customer": {"consent": {"care": "granted"}}, "timeline": [PAID], "expect": [RECEIPT, NOTE]})
    withdrawn = {"after": "1 day", "consent": {"care": "withdrawn"}}
    assert is_kept({"timeline": [PAID, withdrawn], "expect": [RECEIPT, skipped]})


def test_news_of_the_customer_counts_from_then_on():
    news = {"after": "1 day", "customer": {"vip": True}}
    skipped = {"at": "2026-03-04 10:00", "skipped": "email/note"}

    assert is_kept({"timeline": [PAID, news], "expect": [RECEIPT, skipped]}, only_if="not customer.vip")


def test_quiet_hours_and_caps_hold_on_the_customers_own_clock():
    steps = [{"send": "email/note"}, {"send": "email/news"}]
    shop = {"quiet_hours": {"from": "21:00", "to": "08:00"}, "caps": [{"at_most": 1, "within": "20 hours"}]}
    late = {**PAID, "at": "2026-03-28 23:00"}  # clocks go forward that night in Paris, and not in New York
    expect = [{"at": "2026-03-29 08:00", "send": "email/note"}, {"at": "2026-03-30 08:00", "send": "email/news"}]
    test = {"timeline": [late], "expect": expect}

    assert is_kept({**test, "customer": {"timezone": "Europe/Paris"}}, steps=steps, shop=shop)
    assert is_kept({**test, "customer": {"timezone": "America/New_York"}}, steps=steps, shop=shop)


def test_a_customer_falls_into_the_branches_that_the_test_names():
    ways = [{"weight": 1, "name": name, "steps": [{"send": f"email/{name}"}]} for name in ("note", "news")]
    steps = [{"id": "way", "split": ways}]

    for name in ("note", "news"):
        expect = [{"at": "2026-03-02 09:00", "send": f"email/{name}"}]
        assert is_kept({"splits": {"way": name}, "timeline": [PAID], "expect": expect}, steps=steps)
    with pytest.raises(CannotLiveError, match="no split 'way' with a branch 'neither'"):
        is_kept({"splits": {"way": "neither"}, "timeline": [PAID], "expect": []}, steps=steps)


def test_other_flows_run_only_where_the_test_says_beside():
    other = small_shop.flow("other", [{"send": "email/news"}])
    both = [RECEIPT, {"at": "2026-03-02 09:00", "send": "email/news"}, NOTE]

    assert is_kept({"timeline": [PAID], "expect": [RECEIPT, NOTE]}, other)
    assert is_kept({"timeline": [PAID], "beside": ["other"], "expect": both}, other)


def test_a_draft_is_tested_before_it_goes_live():
    assert is_kept({"timeline": [PAID], "expect": [RECEIPT, NOTE]}, status="draft")


def test_a_mail_that_cannot_be_made_fails_the_test_whatever_it_expects():
    steps = [{"send": "email/gift"}]
    came, verdict = lived({"timeline": [PAID], "never": [{"send": "email/note"}]}, steps=steps)

    assert not verdict.is_kept
    assert "order.gift" in verdict.failed[0]
    assert comparison(verdict, came.zone)[0].startswith("! Mail email/gift")


def test_a_field_of_another_kind_than_the_shop_declares_is_told():
    with pytest.raises(CannotLiveError, match=r"order.total should be of the kind number"):
        is_kept({"timeline": [{**PAID, "order": {"id": "o1", "total": "much"}}], "expect": []})


def test_an_attribute_of_another_kind_is_told():
    with pytest.raises(CannotLiveError, match="Attribute vip is not a yes-no"):
        is_kept({"customer": {"vip": "very"}, "timeline": [PAID], "expect": []})


def test_a_failure_shows_both_sides_by_time_and_why():
    came, verdict = lived({"timeline": [PAID], "expect": [RECEIPT, {**NOTE, "at": "2026-03-05 10:00"}]})

    assert comparison(verdict, came.zone) == [
        "   at, Europe/Paris      expected            got",
        "   Mon 2 Mar 2026 09:00  send email/receipt  send email/receipt",
        "+  Wed 4 Mar 2026 10:00  nothing             send email/note",
        "-  Thu 5 Mar 2026 10:00  send email/note     nothing",
    ]
    wrong = [sentence(row, came.zone) for row in verdict.rows if row.is_wrong]
    assert wrong == [
        "At Wed 4 Mar 2026 10:00 this was not expected: send email/note.",
        "Expected at Thu 5 Mar 2026 10:00, and did not happen: send email/note.",
    ]
    told = "\n".join(reasons(came.lines))
    assert "kept: Started by order.paid (event 1)." in told
    assert "Waits until Wed 4 Mar 2026 10:00 Europe/Paris" in told
    assert "Mail email/note was sent, as the customer agreed." in told


def test_why_tells_of_a_flow_that_did_not_start():
    starts = {"event": "order.paid", "when": "customer.orders > 1"}
    came, verdict = lived({"timeline": [PAID], "expect": []}, starts=starts)

    assert verdict.is_kept
    assert "Did not start: `customer.orders > 1` was not true (customer.orders was 1)." in reasons(came.lines)[-1]


@pytest.mark.parametrize(
    ("test", "complaint"),
    [
        ({"timeline": [{**PAID, "at": "2026-03-02"}]}, "'2026-03-02' is not a moment"),
        ({"timeline": [{"after": "1 day", "event": "order.paid"}]}, "The first line says when it is"),
        ({"timeline": [{"event": "order.paid"}]}, "Say when"),
        ({"timeline": [PAID, {"after": "1 day"}]}, "Say what happens"),
        ({"timeline": [PAID, {**PAID, "at": "2026-03-01 09:00"}]}, "This happens before the line above it"),
        ({"timeline": [PAID], "expect": None}, "This test expects nothing"),
        ({"timeline": [PAID], "expect": [{"send": "email/note"}]}, "Say when this is expected"),
        ({"timeline": [PAID], "expect": [{**NOTE, "notify": "desk"}]}, "One expectation is of one thing"),
        ({"timeline": [PAID], "expect": [{**NOTE, "task": "call"}]}, "A task stands beside `notify`"),
        ({"timeline": [PAID], "never": [{"notify": "desk", "due": "2026-03-04"}]}, "Only a task is due"),
        (
            {"timeline": [PAID], "never": [{"notify": "desk", "task": "call", "due": "Friday"}]},
            "There is no day 'Friday'",
        ),
        ({"timeline": [PAID], "never": [NOTE]}, "leave out `at`"),
        ({"timeline": [PAID], "customer": {"timezone": "Paris"}}, "'Paris' is not a time zone"),
        ({"timeline": [PAID], "exepct": []}, "'exepct' is not a key of a test. Did you mean 'expect'?"),
        ({"timeline": [PAID], "expect": [{**RECEIPT, "sent": "x"}]}, "'sent' is not a key of an expectation."),
    ],
)
def test_a_slip_in_a_test_is_told_with_its_place(test, complaint):
    text = small_shop.flow("kept", STEPS, tests=[{"name": "a test", "expect": [], **test}])

    with pytest.raises(Problems) as raised:
        read_flow(text, "flows/kept.yaml")

    assert any(complaint in problem.message for problem in raised.value.problems), raised.value


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        ({"task": "call", "due": "2026-03-04"}, None),
        ({"task": "call"}, None),
        ({}, None),
        ({"task": "write"}, "notify desk: write"),
        ({"task": "call", "due": "2026-03-05"}, "notify desk: call, due 2026-03-05"),
    ],
)
def test_a_task_is_expected_by_its_name_and_its_day_where_a_test_gives_them(expected, got):
    steps = [{"notify": "desk", "task": "call", "due": "2 days"}]
    note = {"at": "2026-03-02 09:00", "notify": "desk", **expected}

    _, verdict = lived({"timeline": [PAID], "expect": [note]}, steps=steps)

    assert [row.expected for row in verdict.rows if row.is_wrong and row.expected] == ([got] if got else [])
    assert verdict.is_kept is (got is None)


def test_check_finds_what_tests_name_and_is_not_there():
    test = """\
  - name: full of slips
    customer: {opn_ticket: true, consent: {coffee-cares: granted}}
    beside: [refil]
    splits: {ways: a}
    timeline:
      - {at: "2026-03-02 09:00", event: order.deliverd, order: {id: o1}}
      - {after: 1 day, event: survey.answered, scor: 1}
      - {after: 1 day, stage: purchas}
    expect: []
  - name: of what it never does
    timeline:
      - {at: "2026-03-02 09:00", event: order.paid, order: {id: o1}}
    never:
      - {send: email/brew-tip}
      - {notify: customer-cares}
      - {stopped: order.refundd}
"""
    files = dict(shop_files())
    files["flows/first-order.yaml"] += test

    told = {problem.message for problem in check_files(files)}

    for slip, meant in (
        ("opn_ticket", "open_ticket"),
        ("coffee-cares", "coffee-care"),
        ("refil", "refill"),
        ("order.deliverd", "order.delivered"),
        ("scor", "score"),
        ("purchas", "purchase"),
        ("email/brew-tip", "email/brew-tips"),
        ("customer-cares", "customer-care"),
        ("order.refundd", "order.refunded"),
    ):
        assert any(f"'{slip}'" in message and f"Did you mean '{meant}'?" in message for message in told), slip
    assert any("no split 'ways'" in message for message in told)
    assert len(told) == 10


def test_the_schema_explains_every_key_of_a_test():
    from afterglow.language.schema import json_schemas

    definitions = json_schemas()["flow"]["$defs"]
    for name in ("FlowTestModel", "HappensModel", "ExpectedModel"):
        assert all("description" in key for key in definitions[name]["properties"].values()), name
    assert json.dumps(definitions)


TESTS = """tests:
  - name: a test
    timeline:
      - {at: "2026-03-02 09:00", event: order.paid}
    expect: []
"""


@pytest.mark.parametrize("before", ["\nsteps:", "\ntopic:", None])
def test_another_test_is_no_other_version_of_the_flow(before):
    plain = shop_files()["flows/welcome.yaml"].partition("tests:")[0]
    text = plain + TESTS if before is None else plain.replace(before, f"\n{TESTS.rstrip()}{before}")
    flow = read_flow(text, "flows/welcome.yaml")
    files = {**shop_files(), "flows/welcome.yaml": text}

    body = next(one.body for one in compile_files(files) if (one.kind, one.name) == ("flow", "welcome"))

    assert len(flow.tests) == 1
    assert read_flow(body, "flows/welcome.yaml").tests == ()
    assert body == without_tests(read_flow(text.replace("a test", "another name"), "flows/welcome.yaml").document)
    places = [read_flow(one, "flows/welcome.yaml").document.place(("steps", 0)) for one in (text, body)]
    assert places[0] == places[1]


def test_tests_in_braces_stay_where_they_are():
    text = small_shop.flow("kept", STEPS, tests=[{"name": "a test", "timeline": [PAID], "expect": []}])
    in_lines = json.dumps(json.loads(text), indent=0)

    for written in (text, in_lines):
        assert without_tests(read_flow(written, "flows/kept.yaml").document) == written


KNOWN = {"at": "2026-03-02 09:00", "customer": {"birthday": "1990-03-05"}}
ALL = '{"segments": [{"segment": "all", "about": "All", "when": "customer.orders >= 0"}]}'
NOBODY = ALL.replace(">= 0", "> 100")
DATED = {"attributes": {"birthday": "date"}, "segments": ALL}


@pytest.mark.parametrize(
    ("starts", "timeline", "at"),
    [
        (
            {"date": "customer.birthday", "yearly": True, "at": "10:00"},
            [KNOWN],
            ["2026-03-05 10:00", "2027-03-05 10:00"],
        ),
        ({"date": "customer.birthday"}, [KNOWN], []),
        (
            {"date": "customer.birthday", "yearly": True, "at": "10:00"},
            [KNOWN, {"after": "1 day", "customer": {"birthday": "1990-03-09"}}],
            ["2026-03-09 10:00"],
        ),
        (
            {"schedule": "30 9 * * TUE", "segment": "all"},
            [{"at": "2026-03-02 09:00", "event": "ping.one"}, {"at": "2026-03-16 09:00", "event": "ping.one"}],
            ["2026-03-03 09:30", "2026-03-10 09:30"],
        ),
        ({"once": "2026-03-06 09:00", "segment": "all"}, [KNOWN], ["2026-03-06 09:00"]),
        ({"once": "2026-03-02 09:00", "segment": "all"}, [KNOWN], ["2026-03-02 09:00"]),
        ({"once": "2026-03-01 09:00", "segment": "all"}, [KNOWN], []),
        (
            {"asked": True, "when": "given.n > 2"},
            [
                {"at": "2026-03-02 09:00", "event": "flow.asked", "flow": "kept", "given": {"n": 3}},
                {"after": "1 hour", "event": "flow.asked", "flow": "kept", "given": {"n": 2}},
                {"after": "1 hour", "event": "flow.asked", "flow": "another", "given": {"n": 3}},
            ],
            ["2026-03-02 09:00"],
        ),
    ],
)
def test_dates_schedules_and_moments_come_until_the_last_moment_that_the_test_names(starts, timeline, at):
    test = {"timeline": timeline, "expect": [{"at": one, "send": "email/receipt"} for one in at]}
    assert is_kept(test, starts=starts, steps=[{"send": "email/receipt"}], shop=DATED)
    if "segment" in starts:
        nothing = {**test, "expect": []}
        assert is_kept(nothing, starts=starts, steps=[{"send": "email/receipt"}], shop={**DATED, "segments": NOBODY})


CAMPAIGN = [
    {"id": "teaser", "until": "2026-03-04", "at": "09:00", "if_past": "skip"},
    {"send": "email/receipt"},
    {"id": "sale", "until": "2026-03-06", "at": "09:00", "if_past": "skip"},
    {"send": "email/note"},
    {"id": "last-call", "until": "2026-03-08", "at": "09:00", "if_past": "skip"},
    {"send": "email/receipt", "id": "closing"},
]


@pytest.mark.parametrize(
    ("joins", "sends"), [("02", ["04", "06", "08"]), ("04", ["06", "08"]), ("07", ["08"]), ("09", [])]
)
def test_who_joins_late_skips_what_is_past_up_to_the_next_date(joins, sends):
    at = f"2026-03-{joins} 10:00"
    mails = {"04": "email/receipt", "06": "email/note", "08": "email/receipt"}
    test = {
        "timeline": [{**PAID, "at": at}],
        "expect": [{"at": f"2026-03-{day} 09:00", "send": mails[day]} for day in sends],
    }
    came, verdict = lived(test, steps=CAMPAIGN)
    assert verdict.is_kept
    assert any("2026-03-04 is past" in str(line) for line in came.lines) == (joins != "02")
