"""The people of one account, whose lives go on side by side: what one does starts flows for all, and is told to others.

The memory of `workers.companies` and `db.accounts`: each person lives by a `Life` of their own, and hears of what the
others do by an event at the same moment.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from afterglow import past
from afterglow.decide import Event
from afterglow.language.company import is_of_colleague, of_colleague, told
from afterglow.language.flow.graph import Flow
from afterglow.mapping import CustomerFacts, Mapped

if TYPE_CHECKING:
    from afterglow.testing.life import Life


@dataclass(eq=False, slots=True)
class Colleagues:
    """Those of an account who are there: whoever joins hears of what happens from then on."""

    lives: list["Life"] = field(default_factory=list)
    #: The flows that ran for the account, each with what there is one run of.
    ran: set[tuple[str, str]] = field(default_factory=set)
    #: Who is to hear what, at this moment.
    news: list[tuple["Life", Mapped]] = field(default_factory=list)

    def join(self, life: "Life") -> None:
        """Somebody is of the account from now on."""
        life.colleagues = self
        self.lives = sorted([*self.lives, life], key=lambda one: one.person.id)

    def claim(self, flow: str, key: str) -> bool:
        """Whether a flow has not run for the account under this key before; from now on it has."""
        is_new = (flow, key) not in self.ran
        self.ran.add((flow, key))
        return is_new

    def tell(self, by: "Life", event: Event, mapped: Mapped, begun: Sequence[Flow]) -> None:
        """What somebody did is told to those for whom it starts a flow, and to those inside one, where flows listen."""
        if is_of_colleague(mapped.event):
            return
        others = [life for life in self.lives if life is not by]
        starts: dict[int, list[str]] = {}
        leads: dict[int, list[str]] = {}
        for flow in begun:
            meant = [life for life in others if life.is_meant(flow)]
            for n, life in enumerate(meant):
                starts.setdefault(life.person.id, []).append(flow.name)
                if n == 0 and not by.is_meant(flow):
                    leads.setdefault(life.person.id, []).append(flow.name)
        is_heard = mapped.event in by.catalog.heard_by_accounts
        for life in others:
            number = life.person.id
            if number in starts or (is_heard and life.is_inside):
                payload = told(event.payload, by.person.id, starts.get(number, ()), leads.get(number, ()))
                of_it = replace(
                    mapped,
                    event=of_colleague(mapped.event),
                    stage=None,
                    customer=CustomerFacts(),
                    payload=payload,
                    occurred_at=event.occurred_at,
                )
                self.news.append((life, of_it))

    def pass_on(self) -> None:
        """Let everybody hear what they are to be told, and what comes of that."""
        while self.news:
            life, mapped = self.news.pop(0)
            heard = replace(life.happening(mapped), occurred_at=mapped.occurred_at)
            life.take_in(heard, mapped, source=past.OURS)

    def until(self, moment: datetime) -> None:
        """Do everything that falls due for anybody up to a moment, in the order of time."""
        if len(self.lives) == 1:  # who has nobody to tell
            self.lives[0].until(moment)
            return
        for life in self.lives:
            life.horizon = max(life.horizon, moment)
        while (due := self.next_due()) is not None and due <= moment:
            for life in self.lives:
                life.until(due)
            self.pass_on()
        for life in self.lives:
            life.until(moment)

    def next_due(self) -> datetime | None:
        """The next moment at which something is due for anybody; None: all is done."""
        return min((due for life in self.lives if (due := life.next_due()) is not None), default=None)
