"""What a customer has in each loyalty programme, for whoever shows it: the command line, and the customer's own page."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from afterglow.loyalty.tiers import Outlook, Standing, outlook
from db import ledger, loyalty
from db.catalog import Release


@dataclass(frozen=True, kw_only=True, slots=True)
class InProgramme:
    """A customer in one programme."""

    programme: str
    about: str
    asset: str
    spendable: int
    pending: int
    held: int
    debt: int  # zero or below
    expires_at: datetime | None  # when something is past next, and how much
    expiring: int
    tier: Outlook | None
    #: Minor digits of what counts for the tier: 0 where points do.
    digits: int
    #: Rewards by id: what each is, what it costs, and whether the customer can have it.
    rewards: dict[str, tuple[str, int, bool]]

    def plain(self) -> dict[str, Any]:
        """As JSON knows it."""
        told = asdict(self)
        told["expires_at"] = self.expires_at.isoformat() if self.expires_at else None
        if self.tier is not None:
            held = self.tier.held_until
            told["tier"] = {**asdict(self.tier), "held_until": held.isoformat() if held else None}
        told["rewards"] = [
            {"id": id_, "about": about, "costs": costs, "affordable": affordable}
            for id_, (about, costs, affordable) in self.rewards.items()
        ]
        return told

    def sentences(self) -> Iterator[str]:
        """What to say of it."""
        yield (
            f"{self.spendable} {self.asset} to spend"
            + (f", {self.pending} still waiting" if self.pending else "")
            + "."
        )
        if self.held:
            yield f"{self.held} held for a redemption."
        if self.debt:
            yield f"{-self.debt} owed, of what was spent before it was taken back."
        if self.expires_at is not None:
            yield f"{self.expiring} expire on {self.expires_at:%Y-%m-%d}."
        if self.tier is not None:
            until = f", until {self.tier.held_until:%Y-%m-%d} at least" if self.tier.held_until else ""
            yield f"Tier {self.tier.tier}{until}."
            if self.tier.next_tier is not None and self.tier.missing is not None:
                missing = f"{self.tier.missing / 10**self.digits:.{self.digits}f}"
                yield f"{missing} more to {self.tier.next_tier}."
        for id_, (about, costs, affordable) in self.rewards.items():
            yield f"{id_}: {about}, for {costs}" + ("." if affordable else f": {costs - self.spendable} are missing.")


def standing_of(connection: Connection, release: Release, customer_id: int, now: datetime) -> list[InProgramme]:
    """What a customer has in each programme in force, in the order of their names."""
    programmes = release.catalog.loyalty
    if not programmes:
        return []
    tiers = {name: one.tiers for name, one in programmes.items() if one.tiers}
    shop = release.catalog.shop
    balances = ledger.balances(connection, [customer_id], now)
    standings = loyalty.standings(connection, [customer_id], tiers)
    earned = loyalty.earned(connection, [customer_id], list(tiers))
    found = []
    for name, programme in sorted(programmes.items()):
        has = balances.get((customer_id, name, programme.asset))
        ahead, digits = None, 0
        if name in tiers:
            digits = shop.digits if tiers[name].by == "spend" else 0
            standing = standings.get((customer_id, name)) or Standing(level=0, since=now)
            progress = [(one.at, one.progress) for one in earned.get((customer_id, name), ()) if one.progress]
            ahead = outlook(tiers[name], standing, progress, now, shop.zone, digits)
        spendable = has.spendable if has else 0
        found.append(
            InProgramme(
                programme=name,
                about=programme.about,
                asset=programme.asset,
                spendable=spendable,
                pending=has.pending if has else 0,
                held=has.held if has else 0,
                debt=has.debt if has else 0,
                expires_at=has.expires_at if has else None,
                expiring=has.expiring if has else 0,
                tier=ahead,
                digits=digits,
                rewards={
                    id_: (reward.about, reward.costs, reward.costs <= spendable)
                    for id_, reward in programme.rewards.items()
                },
            )
        )
    return found
