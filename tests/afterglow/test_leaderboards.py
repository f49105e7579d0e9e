"""Promises of leaderboards that need no database: seasons, ranks, digests; and CSV that runs no formula."""

import csv
import io
import json
import re
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afterglow.language.shop import read_shop
from afterglow.leaderboards import (
    KINDS,
    METRICS,
    Calendar,
    Declared,
    Score,
    Season,
    UnknownMetricError,
    UnknownPeriodError,
    digest_of,
    in_order,
    metric_of,
    movement,
    ranks,
)
from afterglow.problems import Problems
from afterglow.spreadsheet import as_csv
from tests.small_shop import SHOP

PARIS = ZoneInfo("Europe/Paris")
RACE = Declared(name="race", first=date(2026, 3, 10), until=date(2026, 4, 2))
EVERY = Calendar(zone=PARIS, kinds=KINDS, declared=(RACE,))
NOW = datetime(2026, 3, 18, 12, tzinfo=UTC)
moments = st.datetimes(datetime(1990, 1, 1), datetime(2080, 1, 1), timezones=st.just(UTC))
scores = st.lists(
    st.builds(
        Score,
        customer_id=st.integers(1, 10_000),
        value=st.integers(-2, 5),
        reached_at=st.integers(0, 3).map(lambda n: NOW + timedelta(seconds=n)),
    ),
    max_size=12,
    unique_by=lambda score: score.customer_id,
)


def test_an_instant_falls_into_one_season_of_each_kind_and_into_declared_ones():
    names = [season.name for season in EVERY.seasons_at(NOW)]

    assert names == ["all", "2026-W12", "2026-03", "2026-Q1", "2026", "race"]


@given(moments, st.sampled_from(["Europe/Paris", "America/Sao_Paulo", "Asia/Kathmandu", "Africa/Cairo"]))
def test_seasons_of_a_kind_are_half_open_and_leave_no_gap(at, zone):
    calendar = Calendar(zone=ZoneInfo(zone), kinds=KINDS)
    for season in calendar.seasons_at(at)[1:]:
        assert season.start <= at < season.until
        before = calendar.before(season)
        assert before is not None
        assert before.until == season.start
        assert calendar.season(season.name, at) == season
        assert season in calendar.seasons_at(season.start)
        assert season not in calendar.seasons_at(season.until)


def test_the_end_of_a_season_belongs_to_the_next_on_the_shops_own_calendar():
    midnight = datetime(2026, 3, 31, 22, tzinfo=UTC)  # summer time in Paris

    assert "2026-04" in [season.name for season in EVERY.seasons_at(midnight)]
    assert "2026-03" in [season.name for season in EVERY.seasons_at(midnight - timedelta(microseconds=1))]


@pytest.mark.parametrize(
    ("period", "name"),
    [
        ("all", "all"),
        ("this-month", "2026-03"),
        ("last-month", "2026-02"),
        ("this-week", "2026-W12"),
        ("last-quarter", "2025-Q4"),
        ("last-year", "2025"),
        ("2026-Q4", "2026-Q4"),
        ("2020-W53", "2020-W53"),
        ("race", "race"),
    ],
)
def test_a_period_is_called_by_its_name_or_by_how_far_it_is(period, name):
    assert EVERY.season(period, NOW).name == name


@pytest.mark.parametrize(
    "period", ["", "2026-13", "2026-W54", "0000", "this-moth", "2026-Q5", "'; --", "\uff12\uff10\uff12\uff16"]
)
def test_what_is_no_period_is_said_so(period):
    with pytest.raises(UnknownPeriodError, match="No period is called"):
        EVERY.season(period, NOW)


def test_a_kind_of_season_that_is_not_kept_is_refused_with_what_to_do():
    with pytest.raises(UnknownPeriodError, match="add quarter to"):
        Calendar(zone=PARIS).season("2026-Q1", NOW)


def test_a_metric_that_there_is_not_is_refused_with_those_that_there_are():
    assert metric_of("points").unit == "points"
    with pytest.raises(UnknownMetricError, match=", ".join(METRICS)):
        metric_of("clicks")


@given(scores)
def test_a_rank_is_one_more_than_the_number_of_higher_scores(given_scores):
    placed = in_order(given_scores)

    assert all(score.value > 0 for score in placed)
    assert ranks(placed) == [1 + sum(other.value > score.value for other in placed) for score in placed]


@given(scores, st.integers(0, 12))
def test_a_page_from_the_middle_has_the_ranks_of_the_whole(given_scores, start):
    placed = in_order(given_scores)
    whole, page = ranks(placed), placed[start:]
    if page:
        of_first = sum(score.value == page[0].value for score in placed)
        assert ranks(page, first=whole[start], of_first=of_first) == whole[start:]


def test_among_equals_who_was_there_first_comes_first_and_then_the_lower_number():
    later = NOW + timedelta(seconds=1)
    found = in_order(
        [
            Score(customer_id=1, value=3, reached_at=later),
            Score(customer_id=9, value=3, reached_at=NOW),
            Score(customer_id=4, value=3, reached_at=NOW),
        ]
    )

    assert [score.customer_id for score in found] == [4, 9, 1]


def test_movement_is_places_gained():
    assert [movement(before, 4) for before in (9, 4, 1, None)] == [5, 0, -3, None]


def test_a_digest_changes_with_any_score_of_the_season_and_with_the_season():
    season = Season(name="2026-03", kind="month", start=NOW, until=NOW + timedelta(days=31))
    board = [Score(customer_id=1, value=3, reached_at=NOW), Score(customer_id=2, value=1, reached_at=NOW)]
    last = [board[0], Score(customer_id=2, value=2, reached_at=NOW)]
    digests = [
        digest_of("friends", "referrals", season, board),
        digest_of("friends", "referrals", season, last),
        digest_of("friends", "referrals", Season(name="2026-02", kind="month"), board),
        digest_of("friends", "points", season, board),
    ]

    assert digest_of("friends", "referrals", season, list(board)) == digests[0]
    assert len(set(digests)) == 4


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "\uff1d1", '=HYPERLINK("x")'])
def test_a_cell_that_a_spreadsheet_would_run_is_text(cell):
    read = list(csv.reader(io.StringIO(as_csv(["name"], [[cell]]), newline="")))

    assert read == [["name"], [f"'{cell}"]]


def test_numbers_stay_numbers_and_usual_names_stay_as_they_are():
    assert as_csv(["n", "name", "gone"], [[-5, 'Sam "S", Vimes', None]]) == 'n,name,gone\r\n-5,"Sam ""S"", Vimes",\r\n'


def shop(**boards: object) -> str:
    return json.dumps({**SHOP, "leaderboards": boards})


def test_a_shop_says_which_seasons_it_keeps_and_when_they_are_sealed():
    declared = [{"season": "spring-race", "from": "2026-03-10", "until": "2026-04-02"}]
    calendar = read_shop(shop(seasons=["quarter"], declared=declared, settle="36 hours"), "shop.yaml").calendar

    assert [season.name for season in calendar.seasons_at(NOW)] == ["all", "2026-Q1", "spring-race"]
    assert calendar.settle == timedelta(hours=36)
    assert calendar.zone == PARIS


@pytest.mark.parametrize(
    ("boards", "told"),
    [
        ({"digest": "desc"}, "There is no team 'desc'. Did you mean 'desk'?"),
        ({"seasons": ["fortnight"]}, "fortnight"),
        ({"declared": [{"season": "race", "from": "2026-04-02", "until": "2026-04-02"}]}, "ends before it begins"),
        ({"declared": [{"season": "race", "from": "soon", "until": "2026-04-02"}]}, "'soon' is not a day"),
        ({"settle": "a while"}, "a while"),
    ],
)
def test_what_a_shop_says_wrong_about_its_seasons_is_told(boards, told):
    with pytest.raises(Problems, match=re.escape(told)):
        read_shop(shop(**boards), "shop.yaml")
