"""Leaderboards: every programme, one board, and one customer's place on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import Final

from starlette.responses import Response

from afterglow.leaderboards import ALL, METRICS, Season, UnknownMetricError, UnknownPeriodError, in_units
from afterglow.local_time import local_day
from afterglow.spreadsheet import as_csv
from db import directory, leaderboards, people
from db.leaderboards import Board, Named, Place, UnknownBoardError, View
from web.pages import evidence
from web.pages.look import Look, as_id

#: Places on one page, and in a file.
PLACES: Final = 50
CSV_MAX: Final = 10_000
#: Seasons of a sparkline, and what it measures, in its own units.
POINTS: Final = 13
WIDTH, HEIGHT = 260, 48
#: What a bar beside a score measures.
BAR: Final = 120


@dataclass(frozen=True, kw_only=True, slots=True)
class Spark:
    """A line of what somebody scored, season by season."""

    #: Points of the line, and of the area below it, as SVG has them.
    line: str
    area: str
    #: Each season: (x, y, a sentence for whoever points at it).
    points: Sequence[tuple[float, float, str]]
    told: str


def leaderboards_(look: Look) -> Response:
    """Every programme with the first of each of its boards."""
    boards = leaderboards.boards(look.connection)
    programmes = []
    for programme, pairs in groupby(boards, key=lambda pair: pair[0]):
        names = {metric for _, metric in pairs}
        rows = []
        for metric in (one for one in METRICS.values() if one.name in names):
            board = Board(programme=programme, metric=metric.name)
            placed, total = leaderboards.size_of(look.connection, board)
            first = leaderboards.named(look.connection, board, leaderboards.top(look.connection, board, 1), None)
            rows.append((metric, placed, total, first[0] if first else None))
        programmes.append((programme, rows))
    return look.page("leaderboards", tab="leaderboards", programmes=programmes, said=_Said(look))


def leaderboard(look: Look) -> Response:
    """One board: its places, or those of a search."""
    sought, metric = look.word("q"), look.word("metric")
    try:
        view = _view(look, PLACES, leaderboards.from_cursor(look.word("after") or ""))
    except (UnknownBoardError, UnknownMetricError, UnknownPeriodError) as error:
        return look.not_found(str(error), tab="leaderboards")
    places = list(view.places)
    exact = directory.exactly(look.connection, look.app.settings.secrets[0], sought) if sought else None
    if exact is not None and all(one.place.customer_id != exact for one in places):
        mine = leaderboards.rank_of(look.connection, view.board, exact)
        places = leaderboards.named(look.connection, view.board, [mine], view.before) + places if mine else places
    now_running = _running(look, view)
    ids = [one.place.customer_id for one in places]
    recent = (
        leaderboards.values_of(look.connection, view.board.programme, view.board.metric, ids, [now_running.name])
        if now_running
        else {}
    )
    calendar = look.release.catalog.shop.calendar
    period = look.word("period") or ALL
    choices = calendar.choices(look.now)
    if period not in {value for value, _ in choices}:
        choices.append((period, _called(look, view.season)))
    metrics = leaderboards.metrics_of(look.connection, view.board.programme)
    return look.page(
        "leaderboard",
        tab="leaderboards",
        view=view,
        rows=[(one, _bar(one, view), recent.get((one.place.customer_id, now_running.name), 0) if now_running else 0)
              for one in places],
        running=now_running,
        beside=leaderboards.beside(look.connection, view.board, list(view.beside), ids),
        sought=sought,
        metric=metric,
        metrics=metrics,
        labels={one.name: one.label for one in metrics},
        period=period,
        periods=choices,
        called=_called(look, view.season),
        called_before=_called(look, view.before) if view.before else "",
        is_running=view.season.until is None or look.now < view.season.until,
        is_first=look.word("after") is None,
        cursor=leaderboards.cursor,
        said=_Said(look),
        searched_max=leaderboards.SEARCHED_MAX,
        bar=BAR,
    )  # fmt: skip


def leaderboard_csv(look: Look) -> Response:
    """One board as a file for a spreadsheet."""
    try:
        view = _view(look, CSV_MAX, None)
    except (UnknownBoardError, UnknownMetricError, UnknownPeriodError) as error:
        return look.not_found(str(error), tab="leaderboards")
    name = f"{view.board.programme}-{view.board.metric}-{view.season.name}.csv"
    # A byte order mark, or spreadsheets read UTF-8 as something older.
    text = "\ufeff" + as_csv(*leaderboards.as_rows(view, look.release.catalog.shop))
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(text, media_type="text/csv; charset=utf-8", headers=headers)


def referrer(look: Look) -> Response:
    """The page of one customer on a programme's boards, with what their place is made of."""
    given = as_id(look.request.path_params["customer"])
    id_ = people.kept(look.connection, [given]).get(given) if given is not None else None
    if id_ is None:
        return look.not_found("There is no customer of this number.", tab="leaderboards")
    try:
        view = _view(look, 1, None)
    except (UnknownBoardError, UnknownMetricError, UnknownPeriodError) as error:
        return look.not_found(str(error), tab="leaderboards")
    near = leaderboards.around(look.connection, view.board, id_, 3)
    boards = leaderboards.metrics_of(look.connection, view.board.programme)
    return look.page(
        "referrer",
        tab="leaderboards",
        view=view,
        customer_id=id_,
        who=leaderboards.names_of(look.connection, [id_])[id_],
        near=leaderboards.named(look.connection, view.board, near, view.before),
        standings=[(metric, *_standing(look, view, metric.name, id_)) for metric in boards],
        metrics=boards,
        spark=_spark(look, view, id_),
        box=(WIDTH, HEIGHT),
        called=_called(look, view.season),
        evidence=evidence.of_referrals(look.connection, view.board.programme, id_),
        said=_Said(look),
    )


def _view(look: Look, limit: int, after: Place | None) -> View:
    return leaderboards.view(
        look.connection,
        look.release.catalog.shop.calendar,
        look.now,
        programme=look.request.path_params["programme"],
        metric=look.word("metric"),
        period=look.word("period") or ALL,
        limit=limit,
        after=after,
        words=look.word("q"),
    )


@dataclass(frozen=True, slots=True)
class _Said:
    """How a page says scores."""

    look: Look

    def __call__(self, metric: str, value: int) -> str:
        """A score without its unit."""
        return in_units(METRICS[metric], value, self.look.release.catalog.shop.to_major)

    def unit(self, metric: str) -> str:
        """The unit, for the head of a column; nothing where the label says it."""
        return self.look.release.catalog.shop.model.currency if METRICS[metric].unit == "money" else ""


def _standing(look: Look, view: View, metric: str, customer_id: int) -> tuple[Place | None, int]:
    board = Board(programme=view.board.programme, metric=metric, season=view.board.season)
    return leaderboards.rank_of(look.connection, board, customer_id), leaderboards.size_of(look.connection, board)[0]


def _running(look: Look, view: View) -> Season | None:
    """On the board of all time, the season that tells what is new: the longest kept that is no longer than a month."""
    calendar = look.release.catalog.shop.calendar
    kind = next((kind for kind in ("month", "week") if kind in calendar.kinds), None)
    return calendar.latest(kind, 1, look.now)[0] if kind and view.season.kind == ALL else None


def _bar(one: Named, view: View) -> float:
    """How long the bar beside a score is: its share of the first place's, as far as that is on the page."""
    highest = max((other.place.value for other in view.places), default=1)
    return round(max(2.0, min(1.0, one.place.value / highest) * BAR), 1)


def _spark(look: Look, view: View, customer_id: int) -> Spark | None:
    calendar = look.release.catalog.shop.calendar
    kind = view.season.kind if view.season.kind in calendar.kinds else next(iter(calendar.kinds), None)
    if kind is None:
        return None
    latest = calendar.latest(kind, POINTS, look.now)
    names = [season.name for season in latest]
    found = leaderboards.values_of(look.connection, view.board.programme, view.board.metric, [customer_id], names)
    values = [max(0, found.get((customer_id, name), 0)) for name in names]
    highest, said = max(values) or 1, _Said(look)
    step = (WIDTH - 8) / (POINTS - 1)
    points = [
        (round(4 + n * step, 1), round(HEIGHT - 4 - value / highest * (HEIGHT - 12), 1), f"{_called(look, season)}: "
         f"{said(view.metric.name, value)}")
        for n, (season, value) in enumerate(zip(latest, values, strict=True))
    ]  # fmt: skip
    line = " ".join(f"{x},{y}" for x, y, _ in points)
    return Spark(
        line=line,
        area=f"{points[0][0]},{HEIGHT} {line} {points[-1][0]},{HEIGHT}",
        points=points,
        told=f"the last {POINTS} {kind}s, most {said(view.metric.name, max(values))} in one",
    )


def _called(look: Look, season: Season) -> str:
    """A season as people say it: `March 2026`, `2 Mar to 8 Mar 2026`."""
    if season.start is None or season.until is None:
        return "all time"
    first = local_day(season.start, look.zone)
    last = local_day(season.until, look.zone) - timedelta(days=1)
    match season.kind:
        case "month":
            return f"{first:%B %Y}"
        case "quarter":
            return f"quarter {season.name[-1]} of {first.year}"
        case "year":
            return season.name
        case "declared":
            return season.name
        case _:
            return f"{first.day} {first:%b} to {last.day} {last:%b %Y}"
