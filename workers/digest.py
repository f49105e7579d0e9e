"""The Monday digest: the boards of the week that is over, to a team by mail and to Slack.

Told at most once: the week counts as told before anybody is called. Like alarms it is no touchpoint, because it belongs
to no customer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

import httpx
import structlog
from sqlalchemy.engine import Connection

from afterglow.language.shop import Shop
from afterglow.leaderboards import METRICS, Metric, Season, in_units
from afterglow.local_time import from_wall, local_day
from afterglow.mime import Outgoing
from afterglow.tokens import make_token
from db import leaderboards, referring, rounds
from db.app import App
from db.catalog import NothingAppliedError, Release
from db.leaderboards import FORMER, Board, Named
from workers import team
from workers.channels import Channel, Sent

log = structlog.get_logger()

#: Mondays, on the shop's own clock.
AT = time(8)
#: A digest that could not be told within a day of its Monday is not told any more.
LATE = timedelta(days=1)
#: Places of each board.
PLACES = 5
#: How long a provider may take, in seconds.
TELL_S_MAX = 20.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What the digest says of one programme."""

    programme: str
    #: (what is counted, how many have any of it, what they have together, the first places).
    boards: Sequence[tuple[Metric, int, int, Sequence[Named]]]
    waiting: int


def digest(app: App, email: Channel) -> None:
    """Tell the week's boards where it is time, and somebody is to be told."""
    with app.reading() as connection:
        now = app.clock.now(connection)
        try:
            release = app.catalog.current(connection)
        except NothingAppliedError:
            return
    shop = release.catalog.shop
    due = last_monday(shop, now)
    slack = app.settings.slack_webhook_url.get_secret_value()
    if now - due >= LATE or not (slack or _address(app, email, shop)):
        return
    if not rounds.take(app.database, "digest", now, now - due + timedelta(microseconds=1)):
        return
    week = week_before(shop, due)
    with app.reading() as connection:
        told = gather(connection, shop, week)
    if not told:
        return
    text = written(shop, week, told)
    if address := _address(app, email, shop):
        (fate,) = email.send([_letter(app, release, week, text, address, now)], TELL_S_MAX)
        if not isinstance(fate, Sent):
            log.error("the digest could not be mailed, or may not have been", fate=type(fate).__name__)
    if slack:
        _post(slack, text)


def last_monday(shop: Shop, now: datetime) -> datetime:
    """The latest Monday, eight o'clock in the shop's zone, that is not to come."""
    day = local_day(now, shop.zone)
    monday = day - timedelta(days=day.weekday())
    due = from_wall(datetime.combine(monday, AT), shop.zone).astimezone(UTC)
    if due > now:
        due = from_wall(datetime.combine(monday - timedelta(days=7), AT), shop.zone).astimezone(UTC)
    return due


def week_before(shop: Shop, monday: datetime) -> Season:
    """The week that was over on a Monday; all time where the shop keeps no seasons of a week."""
    period = "last-week" if "week" in shop.calendar.kinds else "all"
    return shop.calendar.season(period, monday)


def gather(connection: Connection, shop: Shop, season: Season) -> list[Told]:
    """What there is to tell of each programme; nothing of one in which nothing happened."""
    before = shop.calendar.before(season)
    programmes: dict[str, list[str]] = {}
    for programme, counted in leaderboards.boards(connection):
        programmes.setdefault(programme, []).append(counted)
    told = []
    for programme, names in sorted(programmes.items()):
        boards = []
        for metric in METRICS.values():
            if metric.name in names:
                board = Board(programme=programme, metric=metric.name, season=season.name)
                placed, total = leaderboards.size_of(connection, board)
                first = leaderboards.top(connection, board, PLACES)
                if placed:
                    boards.append((metric, placed, total, leaderboards.named(connection, board, first, before)))
        asks = referring.to_review(connection, programme)
        if boards or asks:
            told.append(Told(programme=programme, boards=boards, waiting=asks))
    return told


def written(shop: Shop, season: Season, told: Sequence[Told]) -> str:
    """The digest as plain text."""
    moves = shop.calendar.before(season) is not None
    parts = []
    for one in told:
        lines = [f"{one.programme}, {spoken(shop, season)}"]
        for metric, placed, total, first in one.boards:
            people = f"{placed:,} customer{'s' * (placed != 1)}"
            lines += ["", f"{metric.label}: {amount(shop, metric, total)} from {people}"]
            lines += [_line(shop, metric, place, moves) for place in first]
        new = [place.name for place in _first_board(one) if place.before is None and place.name != FORMER]
        if moves and new:
            lines += ["", f"New among the first, and worth a thank-you: {', '.join(new)}."]
        if one.waiting:
            lines += ["", f"{one.waiting:,} referral{'s' * (one.waiting != 1)} wait{'s' * (one.waiting == 1)} for you."]
        parts.append("\n".join(lines))
    return "\n\n\n".join(parts) + "\n"


def spoken(shop: Shop, season: Season) -> str:
    """A season as people say it: `23 Feb to 1 Mar 2026`."""
    if season.start is None or season.until is None:
        return "all time"
    first, end = local_day(season.start, shop.zone), local_day(season.until, shop.zone)
    last = end - timedelta(days=1)
    return f"{first.day} {first:%b} to {last.day} {last:%b %Y}"


def amount(shop: Shop, metric: Metric, value: int) -> str:
    """A score with its unit."""
    unit = {"money": f" {shop.model.currency}", "points": " points", "count": ""}[metric.unit]
    return f"{in_units(metric, value, shop.to_major)}{unit}"


def _line(shop: Shop, metric: Metric, place: Named, moves: bool) -> str:
    moved = _moved(place) if moves else ""
    return f"  {place.place.rank}. {place.name}, {amount(shop, metric, place.place.value)}{moved}"


def _first_board(told: Told) -> Sequence[Named]:
    return told.boards[0][3] if told.boards else ()


def _moved(place: Named) -> str:
    match place.movement:
        case None:
            return " (new)"
        case 0:
            return ""
        case places:
            return f" ({'up' if places > 0 else 'down'} {abs(places)})"


def _address(app: App, email: Channel, shop: Shop) -> str | None:
    """Who gets it by mail; None where nobody is to, or where mails stay at home."""
    team = shop.model.leaderboards.digest
    if team is None or not email.leaves_the_machine:
        return None
    address = shop.model.teams[team].address
    return address if app.settings.may_mail(address) else None


def _letter(app: App, release: Release, season: Season, text: str, address: str, now: datetime) -> Outgoing:
    shop = release.catalog.shop
    key = make_token(app.settings.secrets[0], f"digest {season.name}", now.toordinal())
    return team.letter(shop, address, subject=f"leaderboards, {spoken(shop, season)}", text=text, key=key, now=now)


def _post(url: str, text: str) -> None:
    """Post to an incoming webhook of Slack, once; what it answers is only logged."""
    # https://docs.slack.dev/messaging/formatting-message-text: these three are control characters.
    safe = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    try:
        answer = httpx.post(url, json={"text": safe}, timeout=TELL_S_MAX, follow_redirects=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        log.error("Slack could not be told", error=type(error).__name__)
        return
    if answer.status_code != 200:
        log.error("Slack refused the digest", status=answer.status_code)
