"""The Monday digest: the boards of the week that is over, to a team by mail and to Slack.

By mail and by Slack it is told at most once each: it counts as told before anybody is called, and is tried again only
where it is certain that nobody got it. Like alarms it is no touchpoint, because it belongs to no customer. The mail is
the template `email/_digest`; a shop that has none gets plain text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from typing import Any

import httpx
import structlog
from sqlalchemy.engine import Connection

from afterglow.expressions import RenderError
from afterglow.language.shop import Shop
from afterglow.leaderboards import METRICS, Metric, Season, in_units
from afterglow.local_time import from_wall, local_day
from afterglow.mail_templates import render_mail
from afterglow.mime import Outgoing
from afterglow.tokens import make_token
from db import leaderboards, referring, rounds
from db.app import App
from db.catalog import NothingAppliedError, Release
from db.leaderboards import FORMER, Board, Named
from workers import team
from workers.channels import Channel, Fate, InDoubt, NotBegun, Rejected, Sent

log = structlog.get_logger()

#: Mondays, on the shop's own clock.
AT = time(8)
#: A digest that could not be told within a day of its Monday is not told any more.
LATE = timedelta(days=1)
#: How long after nobody got it is it tried again.
RETRY = timedelta(minutes=10)
#: The rounds of both ways: when each was told last.
BY_MAIL, BY_SLACK = "digest", "digest to Slack"
TEMPLATE = "email/_digest"
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
    if now - due >= LATE:
        return
    week = week_before(shop, due)
    if (address := _address(app, email, shop)) and (told := _to_tell(app, BY_MAIL, shop, week, due, now)):
        (fate,) = email.send([_letter(app, release, week, told, address, now)], TELL_S_MAX)
        _settle(app, BY_MAIL, fate)
    if slack and (told := _to_tell(app, BY_SLACK, shop, week, due, now)):
        _settle(app, BY_SLACK, _post(slack, written(shop, week, told)))


def _to_tell(app: App, way: str, shop: Shop, week: Season, due: datetime, now: datetime) -> list[Told]:
    """What this process is to tell one way; nothing where another does it, or it is told. It counts as told now."""
    with app.reading() as connection:
        before = rounds.last(connection, way)
    if (before is not None and before >= due) or not rounds.take(app.database, f"{way}, tried", now, RETRY):
        return []
    with app.reading() as connection:
        told = gather(connection, shop, week)
    return told if rounds.take(app.database, way, now, now - due + timedelta(microseconds=1)) else []


def _settle(app: App, way: str, fate: Fate) -> None:
    """Let it be tried again where surely nobody got it."""
    match fate:
        case NotBegun(reason=reason) | Rejected(reason=reason, permanent=False):
            rounds.let_go(app.database, way)
            log.warning("the digest is tried again", way=way, reason=reason)
        case Rejected(reason=reason) | InDoubt(reason=reason):
            log.error("the digest could not be told, or may not have been", way=way, reason=reason)
        case Sent():
            pass


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
            lines += ["", f"{metric.label}: {amount(shop, metric, total)} from {_people(placed)}"]
            lines += [_line(shop, metric, place, moves) for place in first]
        if moves and (new := _new(one)):
            lines += ["", f"New among the first, and worth a thank-you: {', '.join(new)}."]
        if one.waiting:
            lines += ["", _waiting(one)]
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
    moved = f" ({how})" if moves and (how := _moved(place)) else ""
    return f"  {place.place.rank}. {place.name}, {amount(shop, metric, place.place.value)}{moved}"


def _moved(place: Named) -> str:
    match place.movement:
        case None:
            return "new"
        case 0:
            return ""
        case places:
            return f"{'up' if places > 0 else 'down'} {abs(places)}"


def _new(told: Told) -> list[str]:
    """Who is new among the first of the first board."""
    first = told.boards[0][3] if told.boards else ()
    return [place.name for place in first if place.before is None and place.name != FORMER]


def _people(placed: int) -> str:
    return f"{placed:,} customer{'s' * (placed != 1)}"


def _waiting(told: Told) -> str:
    """What waits for a person, in one sentence; empty where nothing does."""
    n = told.waiting
    return f"{n:,} referral{'s' * (n != 1)} wait{'s' * (n == 1)} for you." if n else ""


def _address(app: App, email: Channel, shop: Shop) -> str | None:
    """Who gets it by mail; None where nobody is to, or where mails stay at home."""
    team = shop.model.leaderboards.digest
    if team is None or not email.leaves_the_machine:
        return None
    address = shop.model.teams[team].address
    return address if app.settings.may_mail(address) else None


def _letter(app: App, release: Release, season: Season, told: Sequence[Told], address: str, now: datetime) -> Outgoing:
    """The mail, in the brand's look where the shop has a template for it."""
    shop = release.catalog.shop
    key = make_token(app.settings.secrets[0], f"digest {season.name}", now.toordinal())
    text = written(shop, season, told)
    plain = team.letter(shop, address, subject=f"leaderboards, {spoken(shop, season)}", text=text, key=key, now=now)
    mail = release.catalog.mails.get(TEMPLATE)
    if mail is None:
        return plain
    pages = f"http://{app.settings.private_bind}"
    names = {"shop": shop.facts, "team": shop.model.leaderboards.digest, "digest": facts(shop, season, told, pages)}
    try:
        rendered = render_mail(mail, names, {})
    except RenderError as error:
        log.error("the digest goes as plain text, because its template cannot be filled in", reason=str(error))
        return plain
    return replace(plain, subject=rendered.subject, html=rendered.html, text=rendered.text)


def facts(shop: Shop, season: Season, told: Sequence[Told], pages: str) -> dict[str, Any]:
    """What the template reads as `digest`; everything in it is text for people, save ranks.

    Args:
      pages: the address of the team's pages.
    """
    moves = shop.calendar.before(season) is not None
    return {
        "season": spoken(shop, season),
        "text": written(shop, season, told).strip(),
        "programmes": [
            {
                "name": one.programme,
                "lines": [line for board in one.boards for line in _lines(shop, *board, moves=moves)],
                "thank": ", ".join(_new(one)) if moves else "",
                "waiting": _waiting(one),
                "url": f"{pages}/leaderboards/{one.programme}?period={season.name}",
            }
            for one in told
        ],
    }


def _lines(
    shop: Shop, metric: Metric, placed: int, total: int, first: Sequence[Named], *, moves: bool
) -> Iterator[dict[str, Any]]:
    """The lines of a board: what is counted, then the first places."""
    yield {"board": metric.label, "value": f"{amount(shop, metric, total)} from {_people(placed)}"}
    for place in first:
        yield {
            "rank": place.place.rank,
            "name": place.name,
            "value": amount(shop, metric, place.place.value),
            "moved": _moved(place) if moves else "",
        }


def _post(url: str, text: str) -> Fate:
    """Post to an incoming webhook of Slack; its fate as that of a mail."""
    # https://docs.slack.dev/messaging/formatting-message-text: these three are control characters.
    safe = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    try:
        answer = httpx.post(url, json={"text": safe}, timeout=TELL_S_MAX, follow_redirects=False)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        return NotBegun(reason=type(error).__name__)
    except httpx.InvalidURL as error:
        return Rejected(reason=type(error).__name__, permanent=True)
    except httpx.HTTPError as error:
        return InDoubt(reason=type(error).__name__)
    if answer.status_code == 200:
        return Sent()
    later = answer.status_code == 429 or answer.status_code >= 500
    return Rejected(reason=f"Slack answered {answer.status_code}", permanent=not later)
