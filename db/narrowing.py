"""From the condition of a segment to SQL that finds at least everybody of whom it is true: SQL narrows, Python decides.

A part that SQL cannot say as Python means it is left out, which only finds more. What is found is whoever is in the
segment now, *or may come to be by time alone*, because they are the ones for whom somebody must look again: where a
moment is compared with one that moves on with the clock, `ago("180 days") > customer.last_order_at` is true of
everybody who ever ordered, one day.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from afterglow.expressions.evaluate import Work, compiled
from afterglow.expressions.tree import (
    And,
    Call,
    Compare,
    Constant,
    Get,
    Is,
    Name,
    Node,
    Not,
    Or,
    Past,
)
from afterglow.expressions.values import is_number
from afterglow.expressions.walk import nodes_of
from afterglow.language.check.supply import CUSTOMER
from afterglow.language.segment import MOVING, Segment, moved
from afterglow.language.shop import Shop, exact
from db.tables import accounts, customers, events, profiles

#: A condition; None where nothing can be said, so that everybody is found.
Where = sa.ColumnElement[bool] | None

_TURNED: Final = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
_NUMBERS: Final = {"orders": customers.c.orders, "spent": customers.c.spent}
_MOMENTS: Final = {"since": customers.c.since, "last_order_at": customers.c.last_order_at}
_TEXTS: Final = {"stage": customers.c.stage, "country": profiles.c.country, "region": profiles.c.region}
#: Names that are never attributes of the shop's.
_OURS: Final = {*CUSTOMER, "phone"}
#: What an integer column can be compared with.
_LARGEST: Final = 2**62


def narrowed(segment: Segment, shop: Shop, now: datetime, dialect: str) -> sa.ColumnElement[bool]:
    """A condition over `customers` and `profiles` (joined from outside) that everybody meets who must be judged."""
    found = _Narrowing(shop, now, dialect).may(segment.tree, True)
    return sa.true() if found is None else found


@dataclass(frozen=True, slots=True)
class _Narrowing:
    shop: Shop
    now: datetime
    dialect: str

    def may(self, node: Node, wanted: bool) -> Where:
        """Of whom a part may be true (`wanted`), or may be false, now or by time alone."""
        match node:
            case Constant(value=value):
                return sa.true() if bool(value) is wanted else sa.false()
            case Not(part=part):
                return self.may(part, not wanted)
            case And(parts=parts) | Or(parts=parts):
                conditions = [self.may(part, wanted) for part in parts]
                return _all(conditions) if isinstance(node, And) is wanted else _any(conditions)
            case Compare(first=first, rest=rest):
                sides = (first, *(side for _, side in rest))
                conditions = [
                    self.pair(left, operator, right, wanted)
                    for left, (operator, right) in zip(sides, rest, strict=False)
                ]
                return _all(conditions) if wanted else _any(conditions)
            case Is(base=base, name="none") if self.column(base) is None:
                return None
            case Is(base=base, name=name):
                return self.is_there(base, wanted is (name == "defined"))
            case Past():
                return self.happened(node, 1) if wanted else None
            case Get():
                return self.is_there(node, True) if wanted else None
            case _:
                return None

    def is_there(self, node: Node, wanted: bool) -> Where:
        """Of whom a value may be there, or may be missing."""
        column = self.column(node)
        if column is not None:
            return column.is_not(None) if wanted else column.is_(None)
        if isinstance(node, Past) and wanted:
            return None if node.function in ("count", "sum") else self.happened(node, 1)
        name = _of_account(node)
        if name in self.of_companies and wanted:
            return self.bought_for(accounts.c.attributes[name].as_string().is_not(None))
        return None

    def pair(self, left: Node, operator: str, right: Node, wanted: bool) -> Where:
        """Of whom one comparison may be true, or false. A comparison with what is missing is false."""
        if operator in ("in", "not in"):
            return self.among(left, right) if wanted and operator == "in" else None
        if _is_fixed(left) or _is_moving(left):
            left, operator, right = right, _TURNED[operator], left
        if isinstance(left, Past):
            return self.past(left, operator, right) if wanted else None
        if not wanted:
            return self.not_pair(left, operator, right)
        if _is_moving(right):
            return self.passing(left, operator, right)
        if not _is_fixed(right):
            return self.is_there(left, True)
        return self.compared(left, operator, _value(right))

    def not_pair(self, left: Node, operator: str, right: Node) -> Where:
        """A false one: its opposite, or nothing there. Of a moving moment only where it is false already."""
        column = self.column(left)
        name = _of_customer(left)
        opposite = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}.get(operator)
        if column is None or opposite is None or name not in (*_NUMBERS, *_MOMENTS):
            return None
        if _is_moving(right) and operator in ("<", "<="):
            return _any([self.still(column, right, opposite), column.is_(None)])
        if _is_fixed(right) and name in _NUMBERS and is_number(_value(right)):
            return self.compared(left, opposite, _value(right))
        return None

    def passing(self, left: Node, operator: str, right: Node) -> Where:
        """`moment < ago(...)` is true of every moment one day, `moment > ago(...)` only until it is not."""
        column = self.column(left)
        if column is None or _of_customer(left) not in _MOMENTS or operator in ("<", "<="):
            return self.is_there(left, True)
        return self.still(column, right, operator)

    def still(self, column: sa.ColumnElement[Any], right: Node, operator: str) -> Where:
        assert isinstance(right, Call)
        assert operator in (">", ">=")
        found: sa.ColumnElement[bool] = column >= self.now + moved(right)
        return found

    def compared(self, left: Node, operator: str, value: object) -> Where:
        """A value of the customer beside one that is written out."""
        name = _of_customer(left)
        if name in _NUMBERS:
            factor = 1 if name == "orders" else self.shop.to_minor(Decimal(1))
            return self.number(_NUMBERS[name], value, operator, factor)
        if operator == "==" and isinstance(value, str):
            return self.text(left, [value])
        if self.of_companies.get(_of_account(left)) == "number" and is_number(value):
            found = self.number(self.number_of_company(left), value, operator, 1)
            return self.is_there(left, True) if found is None else self.bought_for(found)
        found = self.is_there(left, True)
        return self.elsewhere(left) if found is None else found

    def number(self, column: sa.ColumnElement[Any], value: object, operator: str, factor: int) -> Where:
        """A whole number in a column; where the other is none, the next ones on either side are taken in."""
        if not is_number(value):
            return None if operator == "!=" else sa.false()
        exactly = Decimal(value) * factor
        below, above = (int(exactly.to_integral_value(rounding)) for rounding in (ROUND_FLOOR, ROUND_CEILING))
        if max(abs(below), abs(above)) > _LARGEST:
            return None
        low, high = (sa.literal(one, sa.BigInteger) for one in (below, above))  # more than a small column can hold
        match operator:
            case ">" | ">=":
                return column >= low
            case "<" | "<=":
                return column <= high
            case "==":
                return column.between(low, high)
            case _:
                return None

    def among(self, left: Node, right: Node) -> Where:
        """`customer.country in ["FR", "BE"]`, and `"wholesale" in customer.tags`."""
        if _is_fixed(right) and isinstance(values := _value(right), list):
            texts = [value for value in values if isinstance(value, str)]
            return self.text(left, texts) if len(texts) == len(values) else self.is_there(left, True)
        if _of_customer(right) == "tags" and _is_fixed(left) and isinstance(tag := _value(left), str):
            return self.tagged(tag)
        return None

    def text(self, left: Node, values: Sequence[str]) -> Where:
        """A text that is one of some: a column, or an attribute of the shop's."""
        name = _of_customer(left)
        if any("\0" in value for value in values):  # which PostgreSQL cannot be asked for
            return None
        if name in _TEXTS:
            return _TEXTS[name].in_(values)
        if name is not None and name not in _OURS and self.shop.model.attributes.get(name) == "text":
            attribute: sa.ColumnElement[str] = profiles.c.attributes[name].as_string()
            return attribute.in_(values)
        name = _of_account(left)
        if name == "name":
            return self.bought_for(accounts.c.name.in_(values))
        if self.of_companies.get(name) == "text":
            return self.bought_for(accounts.c.attributes[name].as_string().in_(values))
        return self.elsewhere(left)

    def tagged(self, tag: str) -> Where:
        if "\0" in tag:
            return None
        if self.dialect == "postgresql":
            held: sa.ColumnElement[bool] = sa.type_coerce(profiles.c.attributes, JSONB).contains({"tags": [tag]})
            return held
        each = sa.func.json_each(profiles.c.attributes, "$.tags").table_valued("value")
        return sa.exists(sa.select(sa.literal(1)).select_from(each).where(each.c.value == tag))

    @property
    def of_companies(self) -> Mapping[str | None, str]:
        """The facts about companies that stand in their attributes, with their kinds."""
        declared = self.shop.model.accounts
        return {} if declared is None else {k: v for k, v in declared.attributes.items() if k not in ("id", "name")}

    def bought_for(self, where: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
        """Of whom something is true of the company that they buy for."""
        return sa.exists().where(accounts.c.id == customers.c.account_id, where)

    def number_of_company(self, node: Node) -> sa.ColumnElement[Any]:
        """A number among a company's attributes; NULL where it is none."""
        attribute = accounts.c.attributes[_of_account(node)]
        if self.dialect == "sqlite":  # whose json_extract gives a number as it is
            return sa.type_coerce(attribute.as_float(), sa.BigInteger)
        is_number = sa.func.jsonb_typeof(attribute) == "number"
        return sa.type_coerce(sa.case((is_number, sa.cast(attribute.as_string(), sa.Numeric))), sa.BigInteger)

    def elsewhere(self, left: Node) -> Where:
        """What only some have: a company they buy for, orders that put them into fifths."""
        root = _root(left)
        if root == "account":
            return customers.c.account_id.is_not(None)
        return customers.c.orders > 0 if root == "rfm" else None

    def past(self, node: Past, operator: str, right: Node) -> Where:
        """What a customer's events come to, beside something that is written out or moves with the clock."""
        if node.function in ("first", "last"):
            if node.function == "last" and _is_moving(right) and operator in (">", ">="):
                return self.happened(node, 1, since=self.now + moved(right))  # type: ignore[arg-type]
            return self.happened(node, 1)
        if not _is_fixed(right) or not is_number(value := _value(right)):
            return None
        if operator in (">", ">=", "==") and (value > 0 or (value == 0 and operator == ">")):
            least = int(Decimal(value).to_integral_value(ROUND_FLOOR)) + (operator == ">")
            return self.happened(node, least if node.function == "count" else 1)
        if node.function == "count" and operator in ("<", "<=") and node.where is None and node.within is None:
            most = int(Decimal(value).to_integral_value(ROUND_CEILING))
            return None if most > _LARGEST else self.counted(node, None) <= max(most, -1)
        return None

    def happened(self, node: Past, least: int, since: datetime | None = None) -> Where:
        """Of whom something happened so often at least, whatever it carried."""
        if least > _LARGEST:
            return None
        if node.within is not None:
            window = self.now - exact(node.within)
            since = window if since is None else max(since, window)
        if least > 1:
            return self.counted(node, since) >= least
        mine = events.c.customer_id == customers.c.id
        return sa.exists().where(mine, *self.of(node, since))

    def counted(self, node: Past, since: datetime | None) -> sa.ColumnElement[int]:
        mine = events.c.customer_id == customers.c.id
        found = sa.select(sa.func.count()).select_from(events).where(mine, *self.of(node, since)).scalar_subquery()
        return sa.type_coerce(found, sa.BigInteger)  # to compare it with more than anything happened

    def of(self, node: Past, since: datetime | None) -> list[sa.ColumnElement[bool]]:
        named: list[sa.ColumnElement[bool]] = [events.c.name == node.event]
        return named if since is None else [*named, events.c.occurred_at >= since]

    def column(self, node: Node) -> sa.ColumnElement[Any] | None:
        """The column in which a value of the customer stands as it is."""
        name = _of_customer(node)
        return None if name is None else {**_NUMBERS, **_MOMENTS, **_TEXTS}.get(name)


def _of_customer(node: Node) -> str | None:
    match node:
        case Get(base=Name(name="customer"), key=str() as key):
            return key
        case _:
            return None


def _of_account(node: Node) -> str | None:
    match node:
        case Get(base=Name(name="account"), key=str() as key):
            return key
        case _:
            return None


def _root(node: Node) -> str | None:
    while isinstance(node, Get):
        node = node.base
    return node.name if isinstance(node, Name) else None


def _is_moving(node: Node) -> bool:
    return isinstance(node, Call) and node.name in MOVING


def _is_fixed(node: Node) -> bool:
    """Whether it is the same for everybody, always."""
    return not any(isinstance(part, Name | Call | Past) for part in nodes_of(node))


def _value(node: Node) -> object:
    return compiled(node)({}, Work())


def _all(conditions: Sequence[Where]) -> Where:
    """The conditions together; those of which nothing can be said ask for nothing."""
    said = [condition for condition in conditions if condition is not None]
    return sa.and_(*said) if said else None


def _any(conditions: Sequence[Where]) -> Where:
    """One of the conditions; where nothing can be said of one, of nobody."""
    said = [condition for condition in conditions if condition is not None]
    return sa.or_(*said) if len(said) == len(conditions) else None
