"""Whose an arrival is, and which customers are one person. Pure: what it knows is given to it.

A customer is known by identities: accounts (an id at a source), addresses, phone numbers, and the orders that they
placed. Each belongs to one customer. An arrival names some of them, strongest first, and the rules are:

1. The account is the strongest, then the address, then the order, then the phone number (only where shop.yaml says
   `match_by_phone`). The arrival belongs to whoever holds the strongest identity that anybody holds.
2. What nobody held becomes theirs: so a changed address is one more identity of the same customer, and the old one
   stays theirs. Nobody loses an identity by what arrives.
3. A guest, who gives an address and no account, is whoever holds the address.
4. Two accounts of one source are two people, also where they share an address (a family, info@). The address stays with
   who had it first, and what arrives with an account belongs to the account's own customer. Sources that give one
   person several ids (Stripe, to guests) say so in their file (`many_ids: true`), and then this rule does not hold
   for them.
5. An arrival that names what two customers hold shows that they are one person, unless rule 4 says that they are two.
   Then the younger is merged into the older.
6. Our own number, in links and in our own events, says whose the arrival is, and proves nothing about anybody else.

As long as no rule 4 stands against it, who ends up with whom is what hangs together, in whatever order things arrive.
Where accounts of one source are tied together by a shared address, the order decides who holds the address, and never
whose an account's events are.
"""

from collections.abc import Callable, Collection, Iterable, MutableMapping
from dataclasses import dataclass, field

#: (source, external id)
Identity = tuple[str, str]

#: Identities that are no accounts: keyed hashes of addresses and phone numbers, and orders, under "<source>:order" and
#: "<source>:<event>" (no source has a colon in its name).
EMAIL = "email"
PHONE = "phone"
ORDER = ":order"


def is_account(identity: Identity) -> bool:
    """Whether this is a customer's id at a source, and not an address, a phone number or an order."""
    source = identity[0]
    return source not in (EMAIL, PHONE) and ":" not in source


def are_two(mine: Iterable[Identity], theirs: Iterable[Identity], many_ids: Collection[str]) -> bool:
    """Whether holders of these identities cannot be one person: they have different accounts at one source.

    Args:
      many_ids: sources that give one person several ids.
    """
    at: dict[str, set[str]] = {}
    for source, external_id in filter(is_account, mine):
        at.setdefault(source, set()).add(external_id)
    return any(
        source in at and source not in many_ids and external_id not in at[source]
        for source, external_id in filter(is_account, theirs)
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Named:
    """What an arrival says about whose it is.

    `identities` stand strongest first; `number` is our own number of the customer.
    """

    identities: tuple[Identity, ...]
    number: int | None = None
    #: Whether it says enough to make a customer of: an order alone does not.
    can_be_new: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class One:
    """Two customers who are one person, and why; `kept` is the older."""

    kept: int
    merged: int
    reason: str


@dataclass(kw_only=True)
class Register:
    """Who holds what, changed by each arrival in turn.

    Args:
      owners: the customer of each identity that may be named.
      accounts: the accounts of each customer in `owners`.
      many_ids: sources that give one person several ids.
    """

    owners: MutableMapping[Identity, int]
    accounts: MutableMapping[int, set[Identity]]
    many_ids: Collection[str] = frozenset()
    #: What became somebody's here, in order.
    claimed: dict[Identity, int] = field(default_factory=dict)

    def meet(self, named: Named, make: Callable[[], int]) -> int | None:
        """Whose this arrival is; what nobody held is theirs from now on. None: it names only an order nobody placed.

        Args:
          make: gives the number of a new customer.
        """
        customer = named.number if named.number is not None else self._holder(named)
        if customer is None:
            if not named.can_be_new:
                return None
            customer = make()
            self.accounts[customer] = set()
        for one in named.identities:
            if one in self.owners:
                continue
            if is_account(one):
                if self._are_two([one], customer):
                    continue  # named by our own number: the account is left to the customer's own word
                self.accounts[customer].add(one)
            self.owners[one] = self.claimed[one] = customer
        return customer

    def _holder(self, named: Named) -> int | None:
        """The customer of the strongest identity that is held and can be theirs."""
        holders = {one: self.owners[one] for one in named.identities if one in self.owners}
        if not holders:
            return None
        mine = [one for one in named.identities if is_account(one)]
        for one, holder in holders.items():
            if is_account(one) or not mine or not self._are_two(mine, holder):
                return holder
        return None

    def _are_two(self, mine: Iterable[Identity], customer: int) -> bool:
        return are_two(mine, self.accounts[customer], self.many_ids)


def found_one(named: Named, register: Register) -> list[One]:
    """The customers that an arrival shows to be one person with the customer whose it is."""
    held = [(one, register.owners[one]) for one in named.identities if one in register.owners]
    if named.number is not None or len({holder for _, holder in held}) < 2:
        return []
    mine = next((holder for one, holder in held if is_account(one)), held[0][1])
    strongest = next(one for one, holder in held if holder == mine)
    found: dict[int, One] = {}
    for one, holder in held:
        if holder in found or holder == mine:
            continue
        if are_two(register.accounts[mine], register.accounts[holder], register.many_ids):
            continue
        found[holder] = One(kept=min(mine, holder), merged=max(mine, holder), reason=reason(one, strongest))
    return list(found.values())


def reason(shared: Identity, with_what: Identity) -> str:
    """Why two customers are one, such as `the same address came with shopify's id 17`."""
    return f"the same {_kind(shared)} came with {_told(with_what)}"


def _kind(identity: Identity) -> str:
    source, external_id = identity
    if source == EMAIL:
        return "address"
    if source == PHONE:
        return "phone number"
    if source.endswith(ORDER):
        return f"order {external_id} of {source.removesuffix(ORDER)}"
    return f"id {external_id} of {source}"


def _told(identity: Identity) -> str:
    if is_account(identity):
        return f"{identity[0]}'s id {identity[1]}"
    return "another address" if identity[0] == EMAIL else f"the {_kind(identity)}"
