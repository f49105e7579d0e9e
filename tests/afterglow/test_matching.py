"""Whose an arrival is, and who is one person: the rules, by table and by property."""

from collections.abc import Sequence
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afterglow.matching import Identity, Named, One, Register, are_two, found_one, is_account

SHOP1, SHOP2, CRM1, CRM2 = ("shop", "1"), ("shop", "2"), ("crm", "1"), ("crm", "2")
GUEST1, GUEST2 = ("stripe", "1"), ("stripe", "2")
X, Y = ("email", "x"), ("email", "y")
PHONE = ("phone", "p")
ORDER = ("shop:order", "o1")
A, B, NEW = 1, 2, 9


def named(*identities: Identity, number: int | None = None) -> Named:
    can_be_new = any(not one[0].endswith(":order") and one[0] != "phone" for one in identities)
    return Named(identities=identities, number=number, can_be_new=can_be_new)


def register(holding: dict[int, set[Identity]]) -> Register:
    return Register(
        owners={one: customer for customer, ones in holding.items() for one in ones},
        accounts={customer: set(filter(is_account, ones)) for customer, ones in holding.items()},
        many_ids={"stripe"},
    )


def one(reason: str) -> list[One]:
    return [One(kept=A, merged=B, reason=reason)]


CASES = {
    "nobody is known": ({}, named(SHOP1, X, ORDER), NEW, {SHOP1, X, ORDER}, []),
    "an id is known": ({A: {SHOP1}}, named(SHOP1), A, set(), []),
    "a guest is whoever holds the address": ({A: {SHOP1, X}}, named(X), A, set(), []),
    "a guest is new where nobody holds the address": ({A: {SHOP1, X}}, named(Y), NEW, {Y}, []),
    "a guest who signs up": ({A: {X, ORDER}}, named(SHOP1, X), A, {SHOP1}, []),
    "an id of another source joins by the address": ({A: {SHOP1, X}}, named(CRM1, X), A, {CRM1}, []),
    "a changed address joins, the old one stays": ({A: {SHOP1, X}}, named(SHOP1, Y), A, {Y}, []),
    "an order alone belongs to whoever placed it": ({A: {SHOP1, ORDER}}, named(ORDER), A, set(), []),
    "an order that nobody placed waits": ({A: {SHOP1}}, named(ORDER), None, set(), []),
    "an id and an address of two customers are one": (
        {A: {SHOP1}, B: {CRM1, X}},
        named(SHOP1, X),
        A,
        set(),
        one("the same address came with shop's id 1"),
    ),
    "the older is kept also where the id is the younger's": (
        {A: {CRM1, X}, B: {SHOP1}},
        named(SHOP1, X),
        B,
        set(),
        one("the same address came with shop's id 1"),
    ),
    "an id and an order of two customers are one": (
        {A: {SHOP1}, B: {X, ORDER}},
        named(SHOP1, ORDER),
        A,
        set(),
        one("the same order o1 of shop came with shop's id 1"),
    ),
    "an id and a phone number of two customers are one": (
        {A: {SHOP1}, B: {CRM1, PHONE}},
        named(SHOP1, PHONE),
        A,
        set(),
        one("the same phone number came with shop's id 1"),
    ),
    "two accounts of one shop that share an address stay two": (
        {A: {SHOP1, X}, B: {SHOP2}},
        named(SHOP2, X),
        B,
        set(),
        [],
    ),
    "a new account with an address of another account is somebody new": (
        {A: {SHOP1, X}},
        named(SHOP2, X),
        NEW,
        {SHOP2},
        [],
    ),
    "two accounts of one shop stay two also where another source says they are one": (
        {A: {SHOP1, CRM1}, B: {SHOP2, X}},
        named(CRM1, X),
        A,
        set(),
        [],
    ),
    "a source of many ids gives one person several": ({A: {GUEST1, X}}, named(GUEST2, X), A, {GUEST2}, []),
    "a new account of another address joins by its order": ({A: {X, ORDER}}, named(SHOP1, ORDER), A, {SHOP1}, []),
    "our number is stronger than all, and proves nothing": (
        {A: {SHOP1}, B: {X}},
        named(X, number=A),
        A,
        set(),
        [],
    ),
    "our number gives no customer a second account": ({A: {SHOP1}}, named(SHOP2, Y, number=A), A, {Y}, []),
}


@pytest.mark.parametrize("name", CASES)
def test_whose_an_arrival_is_and_what_it_shows(name):
    holding, arrival, customer, claimed, ones = CASES[name]
    known = register(holding)

    assert known.meet(arrival, lambda: NEW) == customer
    assert set(known.claimed) == claimed
    assert found_one(arrival, known) == ones


def test_only_accounts_of_one_source_tell_people_apart():
    assert are_two([SHOP1], [SHOP2], ())
    assert not are_two([SHOP1, CRM1], [SHOP1, X], ())
    assert not are_two([X], [Y], ())
    assert not are_two([GUEST1], [GUEST2], {"stripe"})


class World:
    """The rules at work on arrivals one after the other, each merge done at once."""

    def __init__(self) -> None:
        self.numbers = count(1)
        self.known = register({})
        #: What each customer's events named.
        self.events: dict[int, list[Named]] = {}

    def arrives(self, arrival: Named) -> None:
        customer = self.known.meet(arrival, lambda: next(self.numbers))
        assert customer is not None
        self.events.setdefault(customer, []).append(arrival)
        while ones := found_one(arrival, self.known):
            self.merge(ones[0])

    def merge(self, both: One) -> None:
        for identity, owner in self.known.owners.items():
            if owner == both.merged:
                self.known.owners[identity] = both.kept
        self.known.accounts[both.kept] |= self.known.accounts.pop(both.merged)
        self.events[both.kept] = self.events.get(both.kept, []) + self.events.pop(both.merged, [])

    def groups(self) -> set[frozenset[Identity]]:
        held: dict[int, set[Identity]] = {}
        for identity, owner in self.known.owners.items():
            held.setdefault(owner, set()).add(identity)
        return {frozenset(ones) for ones in held.values()}


identities = st.tuples(
    st.sampled_from(["shop", "crm", "stripe", "email", "phone", "shop:order"]), st.sampled_from("123")
)
arrivals = st.lists(
    st.lists(identities, min_size=1, max_size=4, unique_by=lambda one: one[0]).map(lambda ones: named(*sorted(ones))),
    min_size=1,
    max_size=8,
)


def strongest_first(arrival: Named) -> Named:
    places = ["shop", "crm", "stripe", "email", "shop:order", "phone"]
    ones = sorted(arrival.identities, key=lambda one: places.index(one[0]))
    own = [one for one in ones if is_account(one)][:1]  # an arrival comes from one source
    return Named(identities=tuple(own + [one for one in ones if not is_account(one)]))


def what_hangs_together(those: Sequence[Named]) -> set[frozenset[Identity]]:
    groups: list[set[Identity]] = []
    for arrival in those:
        together = set(arrival.identities)
        for group in [group for group in groups if group & together]:
            together |= group
            groups.remove(group)
        groups.append(together)
    return set(map(frozenset, groups))


@given(arrivals.map(lambda those: list(map(strongest_first, those))), st.randoms(use_true_random=False))
def test_who_ends_up_with_whom_is_what_hangs_together_in_whatever_order_things_arrive(those, random):
    """Wherever no two accounts of one source hang together; there only the accounts' own are promised."""
    world = World()
    random.shuffle(those)
    for arrival in those:
        world.arrives(arrival)

    together = what_hangs_together(those)
    if not any(are_two([one], group, {"stripe"}) for group in together for one in group):
        assert world.groups() == together
    for accounts in world.known.accounts.values():
        assert not are_two(accounts, accounts, {"stripe"})
        for source in ("shop", "crm"):
            assert len({account for account in accounts if account[0] == source}) <= 1
    for customer, its in world.events.items():
        for arrival in its:
            own = [one for one in arrival.identities if is_account(one)]
            assert all(world.known.owners[one] == customer for one in own)
