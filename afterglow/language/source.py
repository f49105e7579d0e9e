"""Source files: how the webhooks of one provider become events of the shop.

A file says how requests are authenticated, how a request is divided (`each`) and recognised when it comes
again (`key`), and then lists rules: the first whose `when` holds says which event it is, whose, and what it
carries. Every value is an expression over these names:

  body     what the event is made of: the posted document, or one element of it where `each` divides it
  headers  the request's headers by lower-cased name: headers['x-shopify-topic']
  item     inside a list of the payload its entry, elsewhere the same as body
  fetched  in rules, the documents that `fetch` names (fetch.py): fetched.contact.properties.email

The models are the compiled form: every expression is parsed, and its place known, when the file is read.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    StringConstraints,
    Tag,
    WithJsonSchema,
    model_validator,
)
from typing_extensions import TypeAliasType

from afterglow import strict_yaml
from afterglow.language.fetch import Fetch
from afterglow.language.value import Kind, Value, read_value
from afterglow.problems import Problem, Problems, did_you_mean
from afterglow.signatures import SCHEMES

#: Facts that a flow already has; a payload may not hide them.
RESERVED: Final = frozenset({"customer", "shop", "account", "colleague"})
#: Stands in `supplies` for the events whose name the payload gives.
ANY_EVENT: Final = "*"

_EXPRESSION_SCHEMA = {
    "type": ["string", "boolean", "number"],
    "description": "An expression, such as body.id.",
}
Expr = Annotated[Value, PlainValidator(read_value), WithJsonSchema(_EXPRESSION_SCHEMA)]
FieldName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
EventName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]*(\.[a-z0-9_-]+)*$", max_length=100)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class From(_Model):
    """A name that the payload gives: `{from: body.type}`."""

    from_: Expr = Field(alias="from", description="Where the name stands, such as body.type.")


def _is_from(value: Any) -> str:
    return "from" if isinstance(value, Mapping | From) else "named"


NameOrFrom = Annotated[Annotated[str, Tag("named")] | Annotated[From, Tag("from")], Discriminator(_is_from)]
EventOrFrom = Annotated[Annotated[EventName, Tag("named")] | Annotated[From, Tag("from")], Discriminator(_is_from)]


class Auth(_Model):
    """How requests prove that they come from this source."""

    scheme: Annotated[str, WithJsonSchema({"enum": list(SCHEMES)})] = Field(
        description="How the provider signs: " + ", ".join(SCHEMES) + "."
    )
    secrets: list[Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]*$")]] = Field(
        min_length=1,
        description="Environment variables holding the secrets; each may hold several, separated by spaces.",
    )

    @model_validator(mode="after")
    def _scheme_is_known(self) -> "Auth":
        if self.scheme not in SCHEMES:
            raise ValueError(f"There is no signature scheme '{self.scheme}'.{did_you_mean(self.scheme, SCHEMES)}")
        return self

    def found_in(self, environment: Mapping[str, str]) -> tuple[str, ...]:
        """The secrets that are set, in the order of the file."""
        return tuple(secret for name in self.secrets for secret in environment.get(name, "").split())


def _known_auth(value: Any) -> Any:
    if isinstance(value, str) and value != "none":
        raise ValueError(
            "Give the scheme and its secrets, such as {scheme: stripe, secrets: [STRIPE_WEBHOOK_SECRET]}, "
            "or say `none` in so many words."
        )
    return value


def _auth_kind(value: Any) -> str:
    return "none" if isinstance(value, str) else "signed"


class ListOfItems(_Model):
    """A list in the payload: from each entry (known as `item`) these fields."""

    each: Expr = Field(description="The list, such as body.line_items.")
    fields: "Group" = Field(description="The fields of an entry, read from `item`.")


def _payload_kind(value: Any) -> str:
    if isinstance(value, Mapping):
        return "list" if "each" in value else "group"
    return "list" if isinstance(value, ListOfItems) else "value"


if TYPE_CHECKING:  # mypy follows no annotated type into itself
    PayloadNode: TypeAlias = Any
else:
    PayloadNode = TypeAliasType(
        "PayloadNode",
        Annotated[
            Annotated[Expr, Tag("value")]
            | Annotated[ListOfItems, Tag("list")]
            | Annotated[dict[FieldName, "PayloadNode"], Tag("group")],
            Discriminator(_payload_kind),
        ],
    )
Group: TypeAlias = dict[FieldName, PayloadNode]
ListOfItems.model_rebuild()


class TakenOver(_Model):
    """A payload taken over as it came."""

    from_: Expr = Field(alias="from", description="The object to take over, such as body.data.")
    without: list[str] = Field(
        default_factory=list, description="Its keys to leave out, beside customer, account and shop."
    )


def _taken_or_mapped(value: Any) -> str:
    taken = "from" in value if isinstance(value, Mapping) else isinstance(value, TakenOver)
    return "taken" if taken else "mapped"


class CustomerRule(_Model):
    """Who it is about. Names not listed here are attributes, as shop.yaml declares them."""

    model_config = ConfigDict(extra="allow", frozen=True, arbitrary_types_allowed=True)
    __pydantic_extra__: dict[str, Expr]

    id: Expr | None = Field(default=None, description="The provider's id of the customer.")
    email: Expr | None = Field(default=None, description="The address; it is normalised.")
    phone: Expr | None = Field(default=None, description="The number; kept only in E.164.")
    first_name: Expr | None = Field(default=None, description="The given name.")
    last_name: Expr | None = Field(default=None, description="The family name.")
    locale: Expr | None = Field(default=None, description="Such as fr or fr-CA.")
    timezone: Expr | None = Field(default=None, description="IANA name, such as Europe/Paris.")
    country: Expr | None = Field(
        default=None, description="Of an address: ISO 3166 code or English name; the time zone is derived from it."
    )
    region: Expr | None = Field(
        default=None, description="Of the same address: state or province, for countries of several time zones."
    )
    order: Expr | None = Field(
        default=None, description="An order's id, where only that is known: the customer is the order's."
    )
    attributes: Expr | None = Field(default=None, description="An object holding further attributes by name.")

    @model_validator(mode="after")
    def _can_be_found(self) -> "CustomerRule":
        if not {"id", "email", "order"} & self.model_fields_set:
            raise ValueError("A customer is found by id, email or order: give at least one.")
        return self

    @property
    def named_attributes(self) -> Mapping[str, Value]:
        """The attributes that the file names."""
        return self.__pydantic_extra__ or {}


#: On what a permission to write rests: the customer's own word; a purchase, where the shop's law and shop.yaml let it;
#: or the service itself, which allows no marketing.
Basis = Literal["consent", "existing-customer", "service"]
BASES: Final[tuple[Basis, ...]] = ("consent", "existing-customer", "service")
BasisOrFrom = Annotated[Annotated[Basis, Tag("named")] | Annotated[From, Tag("from")], Discriminator(_is_from)]


class ConsentRule(_Model):
    """What the customer allowed or withdrew."""

    state: Expr = Field(description="Comes to granted or withdrawn; to nothing where the customer said nothing.")
    at: Expr | None = Field(default=None, description="When; the event's own moment unless given.")
    topic: NameOrFrom = Field(default="*", description="The topic of shop.yaml; `*` is all marketing.")
    evidence: Expr | None = Field(default=None, description="How it was given, in the provider's words.")
    basis: BasisOrFrom = Field(
        default="consent",
        description="On what it rests: consent, existing-customer or service; or {from: ...} which comes to one.",
    )


class AccountRule(_Model):
    """The company the customer buys for. Names not listed here are facts about it, as shop.yaml declares them."""

    model_config = ConfigDict(extra="allow", frozen=True, arbitrary_types_allowed=True)
    __pydantic_extra__: dict[str, Expr]

    id: Expr = Field(description="The provider's id of the company.")
    name: Expr | None = Field(default=None, description="What it is called.")
    attributes: Expr | None = Field(default=None, description="An object holding further facts by name.")

    @property
    def named_attributes(self) -> Mapping[str, Value]:
        """The facts that the file names."""
        return self.__pydantic_extra__ or {}


#: What a customer or a whole shop may ask for by way of a provider; obeyed as `afterglow forget` and `export` do it.
Privacy = Literal["forget", "export", "forget-everybody"]


class Rule(_Model):
    """One kind of request and the event it becomes, or why it is let go."""

    when: Expr | None = Field(default=None, description="Holds for the requests this rule is about.")
    ignore: str | None = Field(default=None, description="Instead of an event: why such a request is let go.")
    privacy: Privacy | None = Field(
        default=None,
        description="Instead of an event: the customer asks to be forgotten (`forget`) or for their data (`export`), "
        "or everybody is to be forgotten whom we know from this source only (`forget-everybody`).",
    )
    event: EventOrFrom | None = Field(default=None, description="The event's name.")
    occurred_at: Expr | None = Field(default=None, description="When it happened; when it came unless given.")
    stage: NameOrFrom | None = Field(default=None, description="The stage the customer enters.")
    joins: Expr | None = Field(
        default=None,
        description="Where another source owns the event: the id of its order. What this rule says is added to it.",
    )
    customer: CustomerRule | None = Field(default=None, description="Who the event is about.")
    consent: ConsentRule | None = Field(default=None, description="What the customer allowed or withdrew with it.")
    account: AccountRule | None = Field(default=None, description="The company that the customer buys for.")
    payload: Annotated[
        Annotated[TakenOver, Tag("taken")] | Annotated[Group, Tag("mapped")], Discriminator(_taken_or_mapped)
    ] = Field(default_factory=dict, description="What the event carries: order, checkout, subscription, ...")

    @model_validator(mode="after")
    def _event_or_ignore(self) -> "Rule":
        if self.privacy is not None:
            return self._asks_for_one_thing()
        if (self.event is None) == (self.ignore is None):
            raise ValueError("A rule gives an event, or says with `ignore` why there is none: one of the two.")
        if self.ignore is not None and self.model_fields_set - {"when", "ignore"}:
            raise ValueError("A rule with `ignore` has a `when` and nothing else.")
        if self.event is not None and self.customer is None:
            raise ValueError("Say whose event it is: a rule needs a `customer` with id, email or order.")
        if isinstance(self.payload, dict) and (hidden := RESERVED & self.payload.keys()):
            raise ValueError(f"A payload may not hold '{min(hidden)}': flows know something else by that name.")
        return self

    def _asks_for_one_thing(self) -> "Rule":
        if self.model_fields_set - {"when", "privacy", "customer"}:
            raise ValueError("A rule with `privacy` has a `when`, a `customer` and nothing else.")
        if self.privacy == "forget-everybody":
            if self.customer is not None:
                raise ValueError("`forget-everybody` is about no single customer: leave `customer` out.")
        elif self.customer is None or not {"id", "email"} & self.customer.model_fields_set:
            raise ValueError(f"Say who asks: `{self.privacy}` needs a `customer` with id or email.")
        return self


class NextPage(_Model):
    """Where the next page of a list is, when the answer gives no address: by the last item of this page."""

    parameter: str = Field(description="The parameter of the address that says where to go on, such as starting_after.")
    value: Expr = Field(description="What it is, read from the page's last `item`, such as item.id.")
    more: Expr = Field(description="Holds while there are more pages, such as body.has_more.")


class ListedElement(_Model):
    """What one item of a list would have been as a webhook."""

    when: Expr | None = Field(default=None, description="Holds for the items that it is about.")
    headers: dict[str, Expr] = Field(
        default_factory=dict, description="The headers, by lower-case name, that the webhook would have brought."
    )


class BackfillList(_Model):
    """One list of the provider's API."""

    get: str = Field(
        description="The address; {since}, {until} (as 2026-11-01T00:00:00Z), {since_epoch}, {until_epoch} and the "
        "names under `environment` are filled in.",
        pattern=r"^https?://",
    )
    each: Expr = Field(description="The items of a page, such as body.orders.")
    next: Annotated[
        Annotated[Literal["link"], Tag("link")] | Annotated[NextPage, Tag("page")],
        Discriminator(lambda value: "link" if isinstance(value, str) else "page"),
    ] = Field(description="`link`, where the answer's Link header tells the next page; else parameter, value and more.")
    same_by: Literal["key", "event"] = Field(
        default="key",
        description="How an item is known to be the same as a webhook: `key`, where both have the source's key; "
        "`event`, where the list knows no such key, and what happens to an order only once says so.",
    )
    elements: list[ListedElement] = Field(
        default_factory=lambda: [ListedElement()], min_length=1, description="What each item would have been."
    )


class Backfill(_Model):
    """How what was missed is fetched from the provider's API."""

    environment: dict[FieldName, Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]*$")]] = Field(
        default_factory=dict, description="Names for `get` and `headers`, and the environment variables that hold them."
    )
    headers: dict[str, str] = Field(default_factory=dict, description="Headers of every request.")
    per_second: float = Field(default=2, gt=0, le=100, description="At most so many requests a second.")
    lists: list[BackfillList] = Field(min_length=1, description="The provider's lists to read, in this order.")


class Source(_Model):
    """A source, compiled."""

    name: str = Field(alias="source", description="The same as the file's.", pattern=r"^[a-z0-9][a-z0-9-]*$")
    about: str | None = Field(default=None, description="What it is, in one line.")
    topics: list[str] = Field(
        default_factory=list,
        description="What to subscribe at the provider, in its own words; `afterglow connect` lists them.",
    )
    auth: Annotated[
        Annotated[Literal["none"], Tag("none")] | Annotated[Auth, Tag("signed")],
        Discriminator(_auth_kind),
        BeforeValidator(_known_auth),
    ] = Field(description="How requests are signed; `none` in so many words where they are not.")
    format: Literal["json", "soap"] = Field(
        default="json", description="The form in which bodies come; soap is how Salesforce posts and wants its answer."
    )
    many_ids: bool = Field(
        default=False,
        description="Whether it gives one person several ids, as Stripe does to guests; else two ids are two people.",
    )
    each: Expr | None = Field(default=None, description="The list whose elements are events of their own.")
    key: Expr = Field(description="The same for the same event sent again, different for any other.")
    fetch: Fetch | None = Field(default=None, description="Documents of the provider that the webhooks leave out.")
    events: list[Rule] = Field(min_length=1, description="The first whose `when` holds counts.")
    backfill: Backfill | None = Field(default=None, description="How what was missed is fetched.")

    @model_validator(mode="after")
    def _strangers_ask_for_nothing(self) -> "Source":
        if self.auth == "none" and any(rule.privacy for rule in self.events):
            raise ValueError("Without a signature anybody could have customers forgotten: `privacy` needs an `auth`.")
        return self

    @cached_property
    def header_names(self) -> frozenset[str]:
        """The headers (lower-cased) that mapping reads; the others need not be kept."""
        names = (name for value in _values(self) for name in value.expression.names)
        return frozenset(name.removeprefix("headers.") for name in names if name.startswith("headers."))

    @cached_property
    def attribute_names(self) -> frozenset[str]:
        """The customer attributes that the file sets by name."""
        return frozenset(name for rule in self.events if rule.customer for name in rule.customer.named_attributes)

    @cached_property
    def event_names(self) -> frozenset[str]:
        """The events it can bring; those whose name the payload gives are not among them."""
        return frozenset(rule.event for rule in self.events if isinstance(rule.event, str))

    @cached_property
    def stage_names(self) -> frozenset[str]:
        """The stages it can bring customers into by name."""
        return frozenset(rule.stage for rule in self.events if isinstance(rule.stage, str))


@lru_cache(maxsize=64)
def read_source(text: str, file: str) -> Source:
    """Compile a source file.

    Raises:
      Problems: everything that is wrong with the file by itself, each with its place.
    """
    document = strict_yaml.load(text, file)
    source = strict_yaml.validated(document, Source)
    if problems := tuple(fetched_problems(source, document)):
        raise Problems(problems)
    return source


def fetched_problems(source: Source, document: strict_yaml.Document) -> Iterator[Problem]:
    """Expressions that read documents which no fetch names, or which are not there yet."""
    named = [one.name for one in source.fetch.documents] if source.fetch else []
    for n, name in enumerate(named):
        if name in named[:n]:
            yield document.problem(("fetch", "documents", n, "name"), f"There are two documents called '{name}'.")
    for path, value in _placed_values(source, ()):
        for name in sorted(value.expression.names):
            root, _, rest = name.partition(".")
            if root != "fetched":
                continue
            wanted = rest.partition(".")[0]
            if path[0] in ("key", "each"):
                message = f"'{path[0]}' is read while the provider waits, when nothing is fetched yet."
            elif not wanted:
                message = "Say which document: fetched.NAME."
            elif wanted not in named:
                message = f"No document '{wanted}' is fetched; name it under fetch.{did_you_mean(wanted, named)}"
            elif path[:2] == ("fetch", "documents") and wanted not in named[: int(path[2])]:
                message = f"'{wanted}' is fetched later: a document may read only those that stand before it."
            else:
                continue
            yield document.problem(path, message)


def _placed_values(part: object, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Value]]:
    """Every expression of a source with its path in the file; those inside a text stand at the text."""
    match part:
        case Value():
            yield path, part
        case BaseModel():
            for name, inner in part:
                field = type(part).model_fields.get(name)
                yield from _placed_values(inner, (*path, (field.alias if field else None) or name))
        case dict():
            for name, inner in part.items():
                yield from _placed_values(inner, (*path, name))
        case list():
            for n, inner in enumerate(part):
                yield from _placed_values(inner, path if path[-1:] == ("path",) and path[0] == "fetch" else (*path, n))


def supplies(source: Source) -> dict[str, dict[str, Kind]]:
    """What each event of this source carries: the kind by path (`order.total`, `order.items[].title`).

    Events whose name the payload gives stand under `*`. A path that two rules of an event fill with different
    kinds is unknown. Moments are kept in payloads as ISO 8601 text.
    """
    found: dict[str, dict[str, Kind]] = {}
    for rule in source.events:
        if rule.event is None:
            continue
        paths = found.setdefault(rule.event if isinstance(rule.event, str) else ANY_EVENT, {})
        if isinstance(rule.payload, dict):
            for path, kind in _paths(rule.payload, ""):
                paths[path] = kind if paths.get(path, kind) == kind else "unknown"
    return found


def _paths(group: Mapping[str, Any], before: str) -> Iterator[tuple[str, Kind]]:
    for name, node in group.items():
        match node:
            case Value():
                yield before + name, node.kind
            case ListOfItems():
                yield before + name, "list"
                yield from _paths(node.fields, f"{before}{name}[].")
            case _:
                yield from _paths(node, f"{before}{name}.")


def _values(part: object) -> Iterator[Value]:
    """Every expression below a part of a source."""
    match part:
        case Value():
            yield part
        case BaseModel():
            for _, inner in part:
                yield from _values(inner)
        case dict():
            for inner in part.values():
                yield from _values(inner)
        case list():
            for inner in part:
                yield from _values(inner)
