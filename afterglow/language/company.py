"""Flows for companies: one run per account, whom of its people it is for, and what their colleagues do.

Each person of an account has a run of their own, so that consent, caps and quiet hours are theirs. What somebody else
of the account did comes to them as an event of ours, `colleague.` and its name, with what it carried; so it starts,
stops and ends waits as everything else does.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

By = Literal["account"]
_PREFIX: Final = "colleague."
#: What the payload of such an event says of it: whose it was, which flows it starts, and whether this run leads.
COLLEAGUE: Final = "colleague"


class ToModel(BaseModel):
    """Whom of an account something is for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: str | list[str] = Field(description="A role of shop.yaml, or a list of them.")

    @property
    def roles(self) -> frozenset[str]:
        """The roles."""
        return frozenset([self.role] if isinstance(self.role, str) else self.role)


def of_colleague(event: str) -> str:
    """What an event is called for the others of the account: `colleague.deal.opened`."""
    return _PREFIX + event


def is_of_colleague(event: str) -> bool:
    """Whether somebody else of the account did it."""
    return event.startswith(_PREFIX)


def plain(event: str) -> str:
    """The event as it happened, whoever did it."""
    return event.removeprefix(_PREFIX)


def is_meant(event: str, wanted: str, *, by_account: bool) -> bool:
    """Whether an event is the wanted one: the customer's own, or anybody's of the account."""
    return event == wanted or (by_account and event == of_colleague(wanted))


def names_of(wanted: str, *, by_account: bool) -> Iterator[str]:
    """The names under which an event can come that is wanted."""
    yield wanted
    if by_account:
        yield of_colleague(wanted)


def told(payload: Mapping[str, Any], whose: int, starts: Collection[str], leads: Collection[str]) -> dict[str, Any]:
    """What an event carries for a colleague.

    Args:
      whose: the customer who did it.
      starts: the flows that it starts for this colleague.
      leads: those of them in which nobody else of the account would do what is done once.
    """
    said = {"id": str(whose), "starts": sorted(starts), "leads": sorted(leads)}
    return {**payload, COLLEAGUE: {name: value for name, value in said.items() if value}}


def is_leading(flow: str, trigger: Mapping[str, Any]) -> bool:
    """Whether a run does what is done once for an account: the run of whoever started it, or of the one named."""
    said = trigger.get(COLLEAGUE)
    return not isinstance(said, Mapping) or flow in said.get("leads", ())


def started_by_colleague(payload: Mapping[str, Any]) -> Collection[str]:
    """The flows that a colleague's event starts for somebody."""
    said = payload.get(COLLEAGUE)
    return tuple(said.get("starts", ())) if isinstance(said, Mapping) else ()
