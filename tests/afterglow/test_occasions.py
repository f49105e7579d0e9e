"""Dates, schedules and moments: which instants they mean, in every zone and over every change of clocks."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest

from afterglow.durations import Duration, parse_offset
from afterglow.language.check import check_files
from afterglow.language.flow.compiler import read_flow
from afterglow.language.starts import OnDate, OverSegment
from afterglow.local_time import from_wall, known_zone, local_day
from afterglow.occasions import Round, anniversary, date_event, date_on, next_date, next_round, round_event
from afterglow.problems import Problems
from tests.driver import shop_files
from tests.examples import LONG

#: In the short form one zone of each kind: changes at midnight, of half an hour, in the south, none, 14 hours ahead.
ZONES = sorted(name for name in available_timezones() if known_zone(name)) if LONG else (
    "Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Beirut", "America/Santiago",
    "Africa/Casablanca", "Pacific/Kiritimati", "Asia/Kolkata", "America/Nuuk",
)  # fmt: skip
PARIS = ZoneInfo("Europe/Paris")
BEGIN, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2029, 1, 1, tzinfo=UTC)


def on(fact: str = "birthday", *, yearly: bool = True, offset: str = "0 days", at: time | None = time(10)) -> OnDate:
    return OnDate(fact=fact, yearly=yearly, offset=parse_offset(offset), at=at)


def over(cron: str | None = None, once: datetime | None = None, zone: str = "customer") -> OverSegment:
    return OverSegment(segment="all", cron=cron, once=once, zone=zone)


def rounds(of: OverSegment, shop: ZoneInfo, zones: tuple[str, ...] = ()) -> list[Round]:
    found, after = [], BEGIN
    while (coming := next_round(of, shop, after, zones)) is not None and coming.at < END:
        found.append(coming)
        after = coming.at
    return found


@pytest.mark.long
@pytest.mark.parametrize("name", ZONES)
@pytest.mark.parametrize("at", ["00:00", "02:30"])
def test_a_schedule_comes_once_for_every_local_date_over_all_changes_of_clocks(name: str, at: str) -> None:
    zone, (hour, minute) = ZoneInfo(name), at.split(":")
    found = rounds(over(f"{int(minute)} {int(hour)} * * *", zone="shop"), zone)
    walls = [one.clock for one in found if one.clock]
    first = local_day(BEGIN, zone) if from_wall(walls[0], zone) == found[0].at else walls[0].date()

    assert [wall.date() for wall in walls] == [walls[0].date() + timedelta(days=n) for n in range(len(walls))]
    assert walls[0].date() - first <= timedelta(days=1)
    assert all(one.at == from_wall(wall, zone) for one, wall in zip(found, walls, strict=True))
    assert len({local_day(one.at, zone) for one in found}) == len(found) >= 3 * 365


@pytest.mark.long
@pytest.mark.parametrize("name", ZONES)
def test_a_day_of_every_year_comes_once_in_each_where_the_customer_lives(name: str) -> None:
    zone = ZoneInfo(name)
    for day in (date(1992, 2, 29), date(1980, 3, 29), date(1980, 10, 25), date(2000, 12, 31)):
        for birthday in (on(at=time(2, 30)), on(at=None), on(offset="-30 days", at=time(0, 30))):
            after, years = BEGIN, []
            while (coming := next_date(birthday, day.isoformat(), zone, after)) is not None and coming.at < END:
                assert coming.at > after
                assert date_on(birthday, day, zone, coming.date) == coming
                planned = anniversary(day, coming.date.year)
                assert coming.date == planned
                years.append(coming.date.year)
                after = coming.at
            assert len(set(years)) == len(years) >= 2


def test_29_february_is_kept_on_28_february_in_other_years() -> None:
    leap = date(1992, 2, 29)
    assert [anniversary(leap, year) for year in (2026, 2028)] == [date(2026, 2, 28), date(2028, 2, 29)]
    coming = next_date(on(), leap, PARIS, datetime(2026, 1, 1, tzinfo=UTC))
    assert coming is not None
    assert (coming.date, coming.years) == (date(2026, 2, 28), 34)


@pytest.mark.parametrize("value", [None, "soon", "", 7, True, "9999-12-31", "0001-01-01", "2026-02-30", []])
def test_what_is_no_date_or_is_written_for_never_starts_nothing_and_breaks_nothing(value: object) -> None:
    for yearly in (True, False):
        assert next_date(on(yearly=yearly), value, PARIS, BEGIN) is None


def test_a_date_that_is_past_never_comes_and_a_moment_counts_by_the_local_day() -> None:
    renewal = on(yearly=False, offset="-30 days")
    assert next_date(renewal, "2026-01-20", PARIS, BEGIN) is None
    coming = next_date(renewal, "2026-04-30T22:30:00+00:00", PARIS, BEGIN)  # 1 May in Paris
    assert coming is not None
    assert (coming.date, coming.at) == (date(2026, 5, 1), datetime(2026, 4, 1, 8, tzinfo=UTC))
    by_hours = OnDate(fact="x", yearly=False, offset=Duration(seconds=-7200), at=None)
    coming = next_date(by_hours, "2026-04-30T22:30:00+00:00", PARIS, BEGIN)
    assert coming is not None
    assert coming.at == datetime(2026, 4, 30, 20, 30, tzinfo=UTC)


def test_a_moment_by_customers_clocks_goes_round_the_world_once() -> None:
    zones = ("Pacific/Kiritimati", "Asia/Tokyo", "Europe/Paris", "Europe/Berlin", "America/New_York")
    found = rounds(over(once=datetime(2026, 11, 27, 9)), PARIS, zones)

    assert [(f"{one.at:%d %H:%M}", sorted(one.clocks)) for one in found] == [
        ("26 19:00", ["Pacific/Kiritimati"]),
        ("27 00:00", ["Asia/Tokyo"]),
        ("27 08:00", ["Europe/Berlin", "Europe/Paris"]),
        ("27 14:00", ["America/New_York"]),
    ]
    assert found[1].wall(ZoneInfo("Asia/Tokyo")) == datetime(2026, 11, 27, 9)
    assert found[1].wall(PARIS) is None


def test_zones_in_which_another_hour_of_the_schedule_comes_at_the_same_instant_are_told_in_one_round() -> None:
    found = rounds(over("0 9,10 1 1 *"), PARIS, ("Europe/London",))
    both = [one for one in found if len(one.clocks) == 2]

    assert {name: wall.hour for name, wall in both[0].clocks.items()} == {"Europe/London": 9, "Europe/Paris": 10}


def test_several_times_that_a_clock_change_throws_together_count_once() -> None:
    found = [one.at for one in rounds(over("0,30 2,3 29 3 *", zone="shop"), PARIS)]
    gap = [one for one in found if one.year == 2026]  # 02:30 does not exist: it is 03:00
    assert gap == [datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 3, 29, 1, 30, tzinfo=UTC)]


def test_what_happens_once_has_one_key() -> None:
    coming = next_date(on(), "1990-03-05", PARIS, BEGIN)
    assert coming is not None
    assert date_event("birthday", on(), coming, 7)[0] == "date/birthday/2026/7"
    once, monday = over(once=datetime(2026, 11, 27, 9)), over("0 9 * * MON")
    assert round_event("f", once, datetime(2026, 11, 27, 9), 7)[0] == "once/f/2026-11-27/7"
    assert round_event("f", monday, datetime(2026, 11, 30, 9), 7)[0] == "schedule/f/2026-11-30T09:00/7"


@pytest.mark.parametrize(
    ("starts", "told"),
    [
        ("{date: customer.brithday}", "'customer.brithday' is nothing we know of customers; declare it in shop.yaml"),
        ("{date: customer.orders}", "'customer.orders' is a number, not a date"),
        ("{once: 2026-11-27 09:00, segment: newslettr}", "There is no segment 'newslettr' in segments.yaml."),
        ("{asked: true, when: given.code == 'x'}", None),
        ("{date: customer.since, yearly: true, when: years > 0}", None),
        ("{asked: true, when: years > 0}", "flow.asked does not supply 'years'."),
    ],
)
def test_what_a_start_names_is_held_against_the_other_files(starts: str, told: str | None) -> None:
    text = FLOW.format(starts=starts).replace("email/a", "email/thank-you").replace("live", "draft")
    found = [one for one in check_files({**shop_files(), "flows/f.yaml": text}) if one.file == "flows/f.yaml"]
    assert [one.line for one in found if told and told in one.message] == [4] * bool(told), found
    assert told or not [one for one in found if one.line == 4], found


FLOW = """flow: f
about: A flow
status: live
starts: {starts}
steps: [{{send: email/a}}]
"""


@pytest.mark.parametrize(
    ("starts", "told"),
    [
        ("{}", "A flow starts in one way: give one of stage, event, segment, leaves, date, schedule, once and asked."),
        ("{event: a.b, asked: true}", "A flow starts in one way"),
        ("{date: order.day}", "'order.day' is not a date that is known of a customer; write it as customer.renewal"),
        ("{date: customer.day, offset: -2 hours, at: '10:00'}", "'at' goes with an offset in days"),
        ("{date: customer.day, offset: soon}", "'soon' is not a duration"),
        ("{event: a.b, yearly: true}", "'yearly' goes with date, not with event; leave it out."),
        ("{date: customer.day, zone: shop}", "'zone' goes with schedule or once, not with date; leave it out."),
        ("{schedule: '0 10 * * MON'}", "Say with `segment` for whom"),
        ("{schedule: '0 10 * *', segment: s}", "'0 10 * *' is not a schedule: write five fields"),
        ("{schedule: '0 25 * * *', segment: s}", "'0 25 * * *' is not a schedule (bad hour)"),
        ("{schedule: '0 0 30 2 *', segment: s}", "'0 0 30 2 *' is not a schedule (bad day-of-month)"),
        ("{schedule: '*/5 * * * *', segment: s}", "comes more often than once an hour"),
        ("{once: 2026-11-27, segment: s}", "'2026-11-27' is not a moment; write it as \"2026-11-27 09:00\"."),
        ("{once: 2026-11-27 09:00, segment: s, zone: Paris}", "'Paris' is no zone; write customer, shop, or a place"),
    ],
)
def test_what_cannot_start_a_flow_is_told_in_a_sentence(starts: str, told: str) -> None:
    with pytest.raises(Problems) as found:
        read_flow(FLOW.format(starts=starts), "flows/f.yaml")
    assert told in str(found.value), str(found.value)
    assert str(found.value).startswith("flows/f.yaml:4:"), str(found.value)
