"""Leaderboards against recomputation from what was recorded, on both databases."""

import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from afterglow.leaderboards import Calendar, Score, UnknownMetricError, digest_of
from db import leaderboards, merging, privacy
from db.engine import Database
from db.leaderboards import Board, Change
from db.tables import customers, late_scores, profiles, score_counts, score_moves, scores, season_seals, seasons
from db.unmerging import unmerge
from tests.examples import examples

NOW = datetime(2026, 3, 18, 12, tzinfo=UTC)
CALENDAR = Calendar(zone=ZoneInfo("Europe/Paris"), kinds=("week", "month"), settle=timedelta(days=3))
PEOPLE = 12
BLANK = {"attributes": {}, "updated_at": NOW}
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
PROGRAMMES = (f"p{n}" for n in count())


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    with database.writing() as connection:
        rows = [{"id": n, "orders": 0, "spent": 0, "since": NOW} for n in range(1, PEOPLE + 1)]
        connection.execute(customers.insert(), rows)
        names = [{"customer_id": n, "first_name": f"Sam{n}", **BLANK} for n in range(1, PEOPLE + 1)]
        connection.execute(profiles.insert(), names)
    yield database
    database.close()


def change(customer_id: int, delta: int, at: datetime = NOW, programme: str = "friends", metric: str = "referrals"):
    subject = f"referral/{customer_id}"
    return Change(programme=programme, metric=metric, customer_id=customer_id, delta=delta, at=at, subject=subject)


def record(database: Database, *changes: Change, now: datetime = NOW) -> None:
    with database.writing() as connection:
        leaderboards.record(connection, changes, CALENDAR, now)


def rolled_up(database: Database) -> None:
    with database.writing() as connection:
        leaderboards.roll_up(connection)


def proven(database: Database, changes: list[Change]) -> None:
    """Scores are the naive sums, ranks SQL's RANK(), before and after counts are rolled up; counts are the scores'."""
    sums: defaultdict[tuple[str, str, str, int], int] = defaultdict(int)
    for one in changes:
        for season in CALENDAR.seasons_at(one.at):
            sums[one.programme, one.metric, season.name, one.customer_id] += one.delta
    programmes = {one.programme for one in changes}
    s = scores.c
    query = sa.select(s.programme, s.metric, s.season, s.customer_id, s.value)
    for _ in range(2):
        with database.reading() as connection:
            stored = connection.execute(query).all()
            found = {tuple(row[:4]): row.value for row in stored if row.programme in programmes and row.value}
            assert found == {key: value for key, value in sums.items() if value}
            for board in {key[:3] for key in sums}:
                ranked(connection, Board(programme=board[0], metric=board[1], season=board[2]))
        rolled_up(database)
    with database.reading() as connection:
        for board in {key[:3] for key in sums}:
            values = [value for key, value in sums.items() if key[:3] == board and value > 0]
            assert counted(connection, board) == Counter(values)


def ranked(connection: sa.Connection, board: Board) -> None:
    """Ranks, page and size of a board are what SQL says of its scores."""
    s = scores.c
    mine = (s.programme == board.programme, s.metric == board.metric, s.season == board.season, s.value > 0)
    rank = sa.func.rank().over(order_by=s.value.desc())
    rows = connection.execute(sa.select(s.customer_id, s.value, rank).where(*mine)).all()
    expected = {row[0]: row[2] for row in rows}
    assert leaderboards.size_of(connection, board) == (len(rows), sum(row.value for row in rows))
    assert {place.customer_id: place.rank for place in leaderboards.top(connection, board)} == expected
    assert leaderboards.ranks_of_customers(connection, board, range(1, PEOPLE + 1)) == expected
    for customer_id in range(1, PEOPLE + 1, 4):
        place = leaderboards.rank_of(connection, board, customer_id)
        assert (place.rank if place else None) == expected.get(customer_id)


def counted(connection: sa.Connection, board: tuple[str, str, str]) -> dict[int, int]:
    """How many have each score, as it is counted."""
    c = score_counts.c
    of_board = (c.programme == board[0], c.metric == board[1], c.season == board[2], c.level == 0, c.n != 0)
    return {row.bucket: row.n for row in connection.execute(sa.select(c.bucket, c.n).where(*of_board))}


@st.composite
def histories(draw: st.DrawFn) -> list[list[Change]]:
    """Batches of changes of two boards, small scores and huge ones, in any order."""
    one = st.builds(
        change,
        st.integers(1, PEOPLE),
        st.sampled_from([1, 1, 1, 2, -1, 255, 256, 65_536, -300, 2**33, 2**45]),
        st.sampled_from([0, 1, 20, 60]).map(lambda days: NOW - days * DAY),
        metric=st.sampled_from(["referrals", "revenue"]),
    )
    return draw(st.lists(st.lists(one, min_size=1, max_size=8), min_size=1, max_size=6))


@settings(max_examples=examples(50), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(histories(), st.data())
def test_scores_counts_and_ranks_are_those_of_recomputation(database, batches, data):
    programme = next(PROGRAMMES)
    batches = [[change(c.customer_id, c.delta, c.at, programme, c.metric) for c in batch] for batch in batches]
    for batch in batches:
        record(database, *batch)
        if data.draw(st.booleans()):
            rolled_up(database)
    proven(database, [one for batch in batches for one in batch])


def test_the_order_in_which_changes_come_does_not_matter(database):
    changes = [change(n % 4 + 1, 1, NOW - n * DAY, programme) for programme in "ab" for n in range(20)]
    for one in changes[:20]:
        record(database, one)
    record(database, *reversed(changes[20:]))

    s = scores.c
    with database.reading() as connection:
        boards = [
            connection.execute(
                sa.select(s.customer_id, s.metric, s.season, s.value, s.reached_at)
                .where(s.programme == programme)
                .order_by(s.customer_id, s.season)
            ).all()
            for programme in "ab"
        ]
    assert boards[0] == boards[1]


def test_pages_follow_each_other_without_gap_or_repeat_through_ties(database):
    record(database, *(change(n, 3 - n % 3, NOW - n // 4 * HOUR) for n in range(1, PEOPLE + 1)))
    board = Board(programme="friends", metric="referrals")
    with database.reading() as connection:
        whole = leaderboards.top(connection, board)
        assert [place.rank for place in whole] == [1] * 4 + [5] * 4 + [9] * 4
        for size in (1, 2, 3, 5, 100):
            pages, after = [], None
            while page := leaderboards.top(connection, board, size, after):
                pages += page
                after = page[-1]
            assert pages == whole


def test_around_somebody_are_their_neighbours(database):
    record(database, *(change(n, 1 + n // 3, NOW - n * HOUR) for n in range(1, PEOPLE + 1)))
    board = Board(programme="friends", metric="referrals")
    with database.reading() as connection:
        whole = leaderboards.top(connection, board)
        for n, place in enumerate(whole):
            found = leaderboards.around(connection, board, place.customer_id, 2)
            assert found == whole[max(0, n - 2) : n + 3]
        assert leaderboards.around(connection, board, 99) == []


def test_a_score_that_is_taken_back_leaves_the_board_of_its_own_season(database):
    last_month = NOW - 30 * DAY
    record(database, change(1, 1, last_month), change(2, 1, last_month))
    record(database, change(1, -1, last_month))
    with database.reading() as connection:
        for season in ("all", "2026-02"):
            board = Board(programme="friends", metric="referrals", season=season)
            assert [place.customer_id for place in leaderboards.top(connection, board)] == [2]


def test_movement_is_told_against_the_season_before_and_only_there(database):
    record(
        database, change(1, 5, NOW - 30 * DAY), change(2, 2, NOW - 30 * DAY), change(1, 1), change(2, 4), change(3, 2)
    )
    season = CALENDAR.season("this-month", NOW)
    board = Board(programme="friends", metric="referrals", season=season.name)
    with database.reading() as connection:
        places = leaderboards.top(connection, board)
        told = leaderboards.named(connection, board, places, CALENDAR.before(season))
        assert [(one.name, one.place.rank, one.movement) for one in told] == [
            ("Sam2", 1, 1),
            ("Sam3", 2, None),
            ("Sam1", 3, -2),
        ]
        all_time = leaderboards.named(connection, board, places, None)
        assert {one.movement for one in all_time} == {None}


def test_a_name_is_found_in_any_case_with_its_true_rank(database):
    record(database, *(change(n, n) for n in range(1, PEOPLE + 1)))
    with database.reading() as connection:
        found = leaderboards.search(connection, Board(programme="friends", metric="referrals"), "sAm1")
        assert [(place.customer_id, place.rank) for place in found] == [(12, 1), (11, 2), (10, 3), (1, 12)]


def test_a_batch_is_a_constant_number_of_statements(database):
    if database.is_sqlite:
        pytest.skip("SQLite writes row by row")
    counted: list[str] = []
    sa.event.listen(database.engine, "before_cursor_execute", lambda *given: counted.append(given[2]))
    record(database, change(1, 1))
    few = len(counted)
    counted.clear()
    record(database, *(change(n % PEOPLE + 1, 1, NOW - n * HOUR, f"p{n % 3}") for n in range(300)))
    assert len(counted) <= few + 1  # the note of what was late


def test_an_unknown_metric_is_refused_before_anything_is_written(database):
    with pytest.raises(UnknownMetricError):
        record(database, change(1, 1), change(1, 1, metric="clicks"))
    with database.reading() as connection:
        assert connection.execute(sa.select(scores)).all() == []


def test_rolling_up_takes_everything_that_moved_a_part_at_a_time(database, monkeypatch):
    monkeypatch.setattr("db.leaderboards.scoring.ROLLED_MAX", 4)
    for n in range(30):
        record(database, change(n % PEOPLE + 1, 1))
    with database.writing() as connection:
        assert leaderboards.roll_up(connection) == 4
        assert leaderboards.size_of(connection, Board(programme="friends", metric="referrals")) == (PEOPLE, 30)
        while leaderboards.roll_up(connection):
            pass
        assert connection.execute(sa.select(score_moves)).all() == []
    proven(database, [change(n % PEOPLE + 1, 1) for n in range(30)])


def test_many_writers_at_once_lose_nothing_and_never_wait_for_each_other_in_a_circle(database):
    """Everybody changes the same customers' scores, each in another order, while counts are rolled up."""
    failed: list[BaseException] = []
    everything = [change(n % PEOPLE + 1, 1 + n % 2) for n in range(24)]

    def write(seed: int) -> None:
        try:
            for turn in range(5):
                record(database, *(everything[seed * turn % 24 :] + everything[: seed * turn % 24]))
                if seed == 0:
                    rolled_up(database)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    proven(database, everything * 30)


# Seasons that are over

FEBRUARY = Board(programme="friends", metric="referrals", season="2026-02")
IN_FEBRUARY = datetime(2026, 2, 10, tzinfo=UTC)
MARCH = datetime(2026, 2, 28, 23, tzinfo=UTC)


def sealed(database: Database, now: datetime) -> list[tuple[str, int]]:
    with database.writing() as connection:
        found = leaderboards.seal_due(connection, CALENDAR, now)
    return [(board.season, seal.revision) for board, seal in found if board.season == "2026-02"]


def test_a_season_is_sealed_once_it_is_settled_and_only_once(database):
    record(database, change(1, 3, IN_FEBRUARY), change(2, 1, IN_FEBRUARY), now=IN_FEBRUARY)

    assert sealed(database, MARCH + 3 * DAY - HOUR) == []
    assert sealed(database, MARCH + 3 * DAY) == [("2026-02", 1)]
    assert sealed(database, MARCH + 9 * DAY) == []
    with database.reading() as connection:
        (seal,) = leaderboards.seals(connection, FEBRUARY)
    season = CALENDAR.season("2026-02", NOW)
    board = [Score(customer_id=c, value=v, reached_at=IN_FEBRUARY) for c, v in ((1, 3), (2, 1))]
    assert seal.digest == digest_of("friends", "referrals", season, board)
    assert (seal.placed, seal.total) == (2, 4)
    assert seal.places == [(1, 1, 3, IN_FEBRUARY.isoformat()), (2, 2, 1, IN_FEBRUARY.isoformat())]


def test_a_late_refund_makes_a_revision_that_names_it_and_leaves_the_first_as_it_was(database):
    record(database, change(1, 1, IN_FEBRUARY), change(2, 2, IN_FEBRUARY), now=IN_FEBRUARY)
    sealed(database, MARCH + 3 * DAY)
    record(database, change(2, -2, IN_FEBRUARY), now=MARCH + 5 * DAY)

    assert sealed(database, MARCH + 6 * DAY) == [("2026-02", 2)]
    with database.reading() as connection:
        first, second = leaderboards.seals(connection, FEBRUARY)
        late = late_scores.c
        told = connection.execute(
            sa.select(late.customer_id, late.delta, late.subject, late.revision).where(late.season == "2026-02")
        ).all()
    assert [place[1] for place in first.places] == [2, 1]
    assert [place[1] for place in second.places] == [1]
    assert first.digest != second.digest
    assert told == [(2, -2, "referral/2", 2)]


def test_late_changes_that_cancel_out_make_no_revision(database):
    record(database, change(1, 1, IN_FEBRUARY), now=IN_FEBRUARY)
    sealed(database, MARCH + 3 * DAY)
    record(database, change(1, 1, IN_FEBRUARY), now=MARCH + 4 * DAY)
    record(database, change(1, -1, IN_FEBRUARY), now=MARCH + 5 * DAY)

    assert sealed(database, MARCH + 6 * DAY) == []
    assert sealed(database, MARCH + 7 * DAY) == []
    with database.reading() as connection:
        assert len(leaderboards.seals(connection, FEBRUARY)) == 1
        assert set(connection.execute(sa.select(late_scores.c.revision)).scalars()) == {1}


def test_a_season_that_ended_before_anything_was_recorded_is_sealed_too(database):
    record(database, change(1, 1, IN_FEBRUARY), now=NOW)

    assert sealed(database, NOW) == [("2026-02", 1)]


# Customers who are merged, parted or forgotten


def merged(database: Database, one: int, other: int, now: datetime = NOW) -> int:
    with database.writing() as connection:
        wanted = merging.want_by_hand(connection, one, other, "somebody said so", now)
        done = merging.merge(connection, wanted, merging.Rules(many_ids=(), by_number=()), now)
        assert done is not None
        return done.id


def standing(database: Database) -> list[tuple[object, ...]]:
    s = scores.c
    query = sa.select(s.customer_id, s.season, s.value, s.reached_at).where(s.value != 0)
    with database.reading() as connection:
        return sorted(tuple(row) for row in connection.execute(query))


def test_merged_customers_have_the_sum_and_parted_ones_each_their_own_again(database):
    mine, theirs = [change(1, 2, NOW - DAY), change(3, 4)], [change(2, 3), change(2, 1, IN_FEBRUARY)]
    record(database, *mine, *theirs)
    before = standing(database)

    merge_id = merged(database, 1, 2)
    proven(database, [*mine, *(change(1, one.delta, one.at) for one in theirs)])

    with database.writing() as connection:
        unmerge(connection, merge_id, NOW)
    assert standing(database) == before
    proven(database, [*mine, *theirs])


def test_what_is_scored_after_a_merge_stays_with_the_kept_customer(database):
    record(database, change(1, 1), change(2, 5))
    merge_id = merged(database, 1, 2)
    record(database, change(1, 1, NOW + HOUR))
    with database.writing() as connection:
        unmerge(connection, merge_id, NOW + DAY)
    proven(database, [change(1, 1), change(1, 1, NOW + HOUR), change(2, 5)])


def test_a_merge_of_two_who_stood_on_a_sealed_season_makes_a_revision(database):
    record(database, change(1, 1, IN_FEBRUARY), change(2, 1, IN_FEBRUARY), now=IN_FEBRUARY)
    sealed(database, MARCH + 3 * DAY)
    merged(database, 1, 2, MARCH + 4 * DAY)

    assert sealed(database, MARCH + 5 * DAY) == [("2026-02", 2)]


def test_a_forgotten_customer_keeps_the_place_without_name_or_what_it_hung_on(database):
    record(database, change(1, 2, IN_FEBRUARY), change(2, 1, IN_FEBRUARY))
    with database.writing() as connection:
        privacy.forget(connection, 1, NOW, b"a secret of the tests")
    board = Board(programme="friends", metric="referrals")
    with database.reading() as connection:
        told = leaderboards.named(connection, board, leaderboards.top(connection, board), None)
        subjects = connection.execute(sa.select(late_scores.c.customer_id, late_scores.c.subject)).all()
    assert [(one.place.rank, one.name) for one in told] == [(1, "a former customer"), (2, "Sam2")]
    assert {row.subject for row in subjects if row.customer_id == 1} == {None}


# What the database itself holds to


@pytest.mark.parametrize(
    ("table", "row"),
    [
        (scores, {"customer_id": 1, "metric": "clicks", "value": 1, "reached_at": NOW}),
        (scores, {"customer_id": 999, "metric": "points", "value": 1, "reached_at": NOW}),
        (seasons, {"metric": "points", "kind": "week", "starts_at": NOW, "ends_at": NOW, "revision": 0}),
    ],
)
def test_the_database_refuses_what_no_board_can_hold(database, table, row):
    with pytest.raises(sa.exc.IntegrityError), database.writing() as connection:
        connection.execute(table.insert().values(programme="friends", season="all", **row))


def test_a_revision_is_there_once(database):
    row = {"programme": "p", "metric": "points", "season": "2026", "revision": 1, "sealed_at": NOW}
    row |= {"digest": "d", "placed": 0, "total": 0, "places": []}
    with database.writing() as connection:
        connection.execute(season_seals.insert().values(**row))
    with pytest.raises(sa.exc.IntegrityError), database.writing() as connection:
        connection.execute(season_seals.insert().values(**row))
