"""Tests of flows, lived: who the customer is, and what happens to them when."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo

from afterglow import dividing, rails
from afterglow.language.actions import TAGS
from afterglow.language.catalog import Catalog
from afterglow.language.company import of_colleague, told
from afterglow.language.flow.graph import Flow, Split
from afterglow.language.testing import FlowTest, Happens, Says
from afterglow.learn import learn_about
from afterglow.local_time import from_wall
from afterglow.mapping import Mapped
from afterglow.person import new
from afterglow.testing.life import Life
from afterglow.testing.memory import CannotLiveError, Lived, ShopUnderTest

#: So many customers are tried until one falls into the branches that a test names.
_CUSTOMERS_MAX: Final = 100_000


def live(shop: ShopUnderTest, flow: Flow, test: FlowTest, number: int | None = None) -> Lived:
    """Live through a test, to the end of everything that it set going.

    The flow runs whatever its status, and so do those beside it; no other does.

    Args:
      number: the customer's, on which splits hang; unless given, that of one who falls as the test says.

    Raises:
      CannotLiveError: the test names a split, branch or flow that is not there, or an event carries another kind.
    """
    cast = {flow.name: flow} | {name: _beside(shop.catalog, name) for name in test.beside}
    catalog = replace(shop.catalog, flows={name: replace(one, status="live") for name, one in cast.items()})
    number = number or _falling(flow, test.splits, _holdouts(catalog))
    return _Lifetime(shop, catalog, test, number).play()


def _beside(catalog: Catalog, name: str) -> Flow:
    if name not in catalog.flows:
        raise CannotLiveError(f"There is no flow '{name}' to run beside this one.")
    return catalog.flows[name]


def _holdouts(catalog: Catalog) -> dict[str, float]:
    """The parts of customers that are held out, by what they are drawn for."""
    drawn = {f"flow {flow.name}": flow.holdout for flow in catalog.flows.values()} | {"shop": catalog.shop.holdout}
    return {part: holdout.share for part, holdout in drawn.items() if holdout is not None}


def _falling(flow: Flow, splits: Mapping[str, str], holdouts: Mapping[str, float]) -> int:
    """The smallest number of a customer who falls into these branches and is held out of nothing."""
    wanted = []
    for id_, branch in splits.items():
        split = flow.steps.get(id_)
        names = [one.name for one in split.branches] if isinstance(split, Split) else []
        if branch not in names or not isinstance(split, Split):
            raise CannotLiveError(f"The flow has no split '{id_}' with a branch '{branch}'.")
        wanted.append((id_, [one.weight for one in split.branches], names.index(branch)))
    for number in range(1, _CUSTOMERS_MAX):
        if any(dividing.share("holdout", part, number) < share for part, share in holdouts.items()):
            continue
        if all(dividing.way(dividing.share(flow.name, id_, number), weights) == way for id_, weights, way in wanted):
            return number
    raise CannotLiveError("No customer falls into all of these branches; name fewer splits.")


def _refuse(remark: str | None) -> None:
    """Say what `ingest` would leave out with a remark: in a test it is a slip."""
    if remark is not None:
        raise CannotLiveError(f"{remark[0].upper()}{remark[1:]}.")


class _Lifetime(Life):
    """One test: its customer, and what happens to them."""

    def __init__(self, shop: ShopUnderTest, catalog: Catalog, test: FlowTest, number: int) -> None:
        self.test = test
        first = test.timeline[0].at
        assert first is not None
        zone = ZoneInfo(test.customer.get("timezone") or catalog.shop.model.timezone)
        super().__init__(shop, catalog, new(number, from_wall(first, zone)), from_wall(first, zone))
        self._introduce()
        self.lived.zone = self.person.zone(self.shop)
        self.now = self.person.since = from_wall(first, self.lived.zone)
        self.account = None if test.account is None else {**test.account, "id": "1"}
        self.hear(_words(test.consents))
        self.begin()

    def play(self) -> Lived:
        before = self.now
        for line in self.test.timeline:
            moment = from_wall(line.at, self.lived.zone) if line.at else before
            if line.after is not None:
                moment = line.after.after(before, self.lived.zone)
            if moment < before:
                raise CannotLiveError("A line of the timeline happens before the one above it; put them in order.")
            self.until(moment)
            self._take_in(line)
            self._drain()
            before = moment
        self.horizon = max([before, *(from_wall(one.at, self.lived.zone) for one in self.test.expect or () if one.at)])
        self.until(None)
        return self.lived

    def _introduce(self) -> None:
        """Who the customer is when the test begins."""
        person = self.person
        told = self._mapped("customer.created", None, self.test.customer, {})
        _refuse(learn_about(person, told, self.shop))
        person.orders, person.spent = self.test.orders, self.shop.to_minor(Decimal(self.test.spent))
        if self.test.orders:
            person.last_order_at = self.now
        if self.test.tags:
            person.attributes[TAGS] = sorted(self.test.tags)
        if self.test.stage is not None:
            person.stage, person.stage_at = self.test.stage, self.now

    def _take_in(self, line: Happens) -> None:
        stage = line.stage or self.under_test.stages.get(line.event)
        mapped = self._mapped(line.event, stage, line.customer, line.payload)
        if line.by is not None:
            mapped = self._of_colleague(mapped, line.by)
        _refuse(self.take_in(self.happening(mapped), mapped, _words(line.consents)))

    def _of_colleague(self, said: Mapped, role: str) -> Mapped:
        """What the customer hears of an event of somebody else of the account, as `workers.companies` tells it."""
        if self.account is None:
            raise CannotLiveError("Only in a test with an `account` are there colleagues; say which company it is.")
        mine = [flow for flow in self.started_for_account(said, self.names(said.payload)) if self.is_meant(flow)]
        starts = [flow.name for flow in mine]
        leads = [flow.name for flow in mine if flow.to and role not in flow.to]
        payload = told(said.payload, self.person.id + 1, starts, leads)
        return replace(said, event=of_colleague(said.event), stage=None, payload=payload)


def _words(said: Iterable[Says]) -> list[rails.Consent]:
    return [rails.Consent(topic=one.topic, granted=one.state == "granted") for one in said]
