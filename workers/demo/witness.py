"""What one refund takes along: looked at just before the webhook, and again when all that it caused is done."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db import identity, leaderboards, ledger, referring
from db.app import App
from db.leaderboards import Board
from db.referring import Referral
from db.tables import OPEN_TOUCHPOINTS, enrollments, touchpoints

#: Programme and asset, in the words of `flows/programmes/beans.yaml`.
WALLET: Final = ("beans", "beans")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sight:
    """How it stood at an instant, as the database says it."""

    at: datetime
    referral: Referral
    #: What both have, pending or to be spent.
    referrer_has: int
    referee_has: int
    #: The referrer on the board of all time; None for who is not on it.
    rank: int | None
    friends: int
    #: Mails to the referee that are queued, as steps of flows.
    queued: tuple[str, ...]
    #: Runs of the referee that are under way.
    runs: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Witness:
    """The two looks."""

    before: Sight
    after: Sight


def look(app: App, email: str) -> Sight | None:
    """How it stands with a referee and whoever brought them; None for who was brought by nobody."""
    with app.reading() as connection:
        now = app.clock.now(connection)
        found = identity.find_customer(connection, app.settings.secrets[0], email)
        mine = referring.of_customer(connection, found) if found is not None else []
        referral = next((one for one in mine if one.referee_id == found), None)
        if referral is None:
            return None
        referrer, referee = referral.referrer_id, referral.referee_id
        place = leaderboards.rank_of(connection, Board(programme=referral.programme, metric="referrals"), referrer)
        has = ledger.balances(connection, [referrer, referee], now)
        beans = {who: has[who, *WALLET].balance if (who, *WALLET) in has else 0 for who in (referrer, referee)}
        return Sight(
            at=now,
            referral=referral,
            referrer_has=beans[referrer],
            referee_has=beans[referee],
            rank=place.rank if place else None,
            friends=place.value if place else 0,
            queued=_queued(connection, referee),
            runs=_runs(connection, referee),
        )


def _queued(connection: Connection, customer: int) -> tuple[str, ...]:
    t = touchpoints.c
    states = [state.value for state in OPEN_TOUCHPOINTS]
    query = sa.select(t.step).where(t.customer_id == customer, t.state.in_(states)).order_by(t.id)
    return tuple(connection.execute(query).scalars())


def _runs(connection: Connection, customer: int) -> int:
    e = enrollments.c
    under_way = sa.select(sa.func.count()).where(e.customer_id == customer, e.ended_at.is_(None))
    return int(connection.execute(under_way).scalar_one())
