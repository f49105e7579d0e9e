"""`GET /api/leaderboards/{programme}`: a leaderboard for programs that hold the key."""

from datetime import datetime
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from afterglow.errors import AfterglowError
from afterglow.leaderboards import ALL, UnknownMetricError, UnknownPeriodError
from db import leaderboards
from db.app import App
from db.catalog import NothingAppliedError
from db.leaderboards import UnknownBoardError
from web.api import ApiError, Refusal

#: Places in one answer at most.
PLACES_MAX = 1000


class Sealed(BaseModel):
    """That the season is over and settled."""

    revision: int = Field(description="1, and one more for each time that late changes made it another.")
    at: datetime
    digest: str = Field(description="SHA-256 of every score of the season.")


class Place(BaseModel):
    """Who stands where."""

    rank: int = Field(description="1, 2, 2, 4: nobody stands behind somebody of the same score.")
    customer: int
    name: str
    value: int = Field(description="The score; money in minor units.")
    reached_at: datetime = Field(description="When the score was reached: the tie-break of prizes, before the number.")
    rank_before: int | None = Field(description="The rank in the season before.")
    movement: int | None = Field(description="Places gained since then; null for who is new.")
    beside: dict[str, int] = Field(
        description="What the customer has on the programme's other boards of money in this season, in minor units."
    )


class Leaderboard(BaseModel):
    """A stretch of a leaderboard."""

    programme: str
    metric: str
    unit: str = Field(description="count, points, or the currency.")
    season: str
    from_: datetime | None = Field(alias="from")
    until: datetime | None = Field(description="The season ends before this instant.")
    customers: int = Field(description="How many are on the board.")
    total: int
    sealed: Sealed | None
    places: list[Place]
    further: str | None = Field(description="Give it as `after` for the places behind these.")


_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal, "description": when}
    for status, when in (
        (401, "The key is missing or wrong."),
        (403, "No key is set here, so nothing is told."),
        (404, "There is no such board; the answer says which there are."),
        (422, "A parameter cannot be understood."),
        (503, "The database cannot be read just now."),
    )
}


def make_leaderboard_api(app: App) -> APIRouter:
    """The routes below `/api/leaderboards`."""
    router = APIRouter(prefix="/api", tags=["leaderboards"])

    @router.get("/leaderboards/{programme}", response_description="The places, in order.", responses=_REFUSALS)
    def read_leaderboard(
        programme: str,
        metric: Annotated[str | None, Query(description="referrals, revenue, rewards or points.")] = None,
        period: Annotated[str, Query(description="all, this-month, last-week, 2026-10, 2026-W09, ...")] = ALL,
        limit: Annotated[int, Query(ge=1, le=PLACES_MAX)] = 100,
        after: Annotated[str | None, Query(description="`further` of an earlier answer.")] = None,
    ) -> Leaderboard:
        """Read who stands where, as of the latest commit."""
        behind = leaderboards.from_cursor(after) if after else None
        if after and behind is None:
            raise ApiError(422, "`after` is not what `further` of an earlier answer said.")
        try:
            with app.reading() as connection:
                shop = app.catalog.current(connection).catalog.shop
                found = leaderboards.view(
                    connection,
                    shop.calendar,
                    app.clock.now(connection),
                    programme=programme,
                    metric=metric,
                    period=period,
                    limit=limit,
                    after=behind,
                )
        except (UnknownBoardError, UnknownMetricError, UnknownPeriodError) as error:
            raise ApiError(404, str(error)) from None
        except (sa.exc.SQLAlchemyError, NothingAppliedError) as error:
            unread = "The database cannot be read just now; ask again in a moment."
            raise ApiError(503, str(error) if isinstance(error, AfterglowError) else unread) from None
        return Leaderboard.model_validate(leaderboards.as_json(found, shop))

    return router
