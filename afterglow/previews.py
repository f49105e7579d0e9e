"""A mail as somebody would read it, before anybody gets it.

What a template reads comes from a customer, from a file, or from an example; whatever is missing is an example, and
the preview says of which names that is so. Nothing here belongs to a touchpoint, so links are signed with a key that
opens nothing: no click in a preview unsubscribes, rates or shows a page.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from afterglow import letters, strict_yaml
from afterglow.errors import AfterglowError
from afterglow.language.catalog import Catalog
from afterglow.language.check.flows import names_at
from afterglow.language.check.reach import arrivals
from afterglow.language.check.supply import ListShape, Shape, World, all_merged, merged, world
from afterglow.language.flow.graph import Flow, Notify, Send, WaitFor
from afterglow.letters import OWN_NAMES, TEAM_NAMES, Addressed, Letterhead
from afterglow.mail.locales import parted
from afterglow.mail_templates import Mail, Rendered
from afterglow.pictures.flows import written
from afterglow.problems import did_you_mean

#: Links of previews are signed with this, so that they open nothing.
KEY: Final = b"links of a preview open nothing"
NOTICE: Final = "email/_notify"
#: Texts that would look wrong as "example ...".
_TEXTS: Final = {
    "email": "sam@example.com",
    "first_name": "Sam",
    "last_name": "Example",
    "phone": "+442079460000",
    "country": "FR",
    "code": "EXAMPLE-CODE",
}
_NUMBERS: Final = {"quantity": 1, "orders": 2, "score": 4, "stars": 4, "points": 120, "milestone": 3}


class UnknownTemplateError(AfterglowError):
    """No template of the shop is called that."""


class FactsError(AfterglowError):
    """The file of facts holds no names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preview:
    """A mail in one language, and the first names whose facts are an example's."""

    locale: str | None
    rendered: Rendered
    examples: tuple[str, ...]


def languages(names: Iterable[str], template: str) -> dict[str | None, str]:
    """The names of a template's mails by locale: its own (None), then those such as `email/welcome.fr`, sorted.

    Raises:
      UnknownTemplateError: there is none.
    """
    known = sorted(names)
    wanted = template if "/" in template else f"email/{template}"
    found: dict[str | None, str] = {None: wanted} if wanted in known else {}
    found |= {locale: name for name in known for plain, locale in [parted(name)] if locale and plain == wanted}
    if not found:
        raise UnknownTemplateError(f"No template is called '{template}'.{did_you_mean(wanted, known)}")
    return found


def roots(mail: Mail) -> frozenset[str]:
    """The first names of the facts that a mail reads, such as `order`; those of every mail are left out."""
    read = frozenset(name.partition(".")[0].partition("[")[0] for name in mail.names) - OWN_NAMES - {"shop"}
    return read - TEAM_NAMES if mail.kind == "team" else read


def awaited(catalog: Catalog, template: str) -> dict[str, tuple[str, ...]]:
    """The events that come under another name in flows that send a template: events by step."""
    return {
        step.id: _events(written(flow, step.path)["wait_for"])
        for flow in _senders(catalog, template)
        for step in flow.steps.values()
        if isinstance(step, WaitFor)
    }


def _events(waits_for: Any) -> tuple[str, ...]:
    """One event, or several of which the first ends the wait."""
    return (waits_for,) if isinstance(waits_for, str) else tuple(one["event"] for one in waits_for)


def starting(catalog: Catalog, template: str) -> frozenset[str]:
    """The events that start the flows that send a template, where an event does."""
    return frozenset(flow.event for flow in _senders(catalog, template) if flow.event is not None)


def read_facts(text: str, file: str) -> dict[str, Any]:
    """The facts of a file: YAML or JSON, first names at the top.

    Raises:
      Problems: it cannot be read.
      FactsError: it holds no names.
    """
    data = strict_yaml.load(text, file).data
    if not isinstance(data, dict) or not data:
        raise FactsError(f"{file} holds no facts; write names at the top, such as `customer:` and `order:`.")
    return data


def preview(
    catalog: Catalog,
    mail: Mail,
    template: str,
    locale: str | None,
    facts: Mapping[str, Any],
    *,
    public_url: str,
    now: datetime,
) -> Preview:
    """Write a mail for somebody, whatever is missing from an example.

    Args:
      template: the name without a locale: what flows send.
      facts: by first name; `customer` may hold some of a customer's fields only.
      now: the moment that stands in examples.

    Raises:
      RenderError: the mail cannot be written of this.
    """
    shop = catalog.shop
    shapes = _shapes(catalog, mail, template)
    made = {name: example(name, shape, now) for name, shape in shapes.items() if name in roots(mail)}
    made |= {name: f"example {name}" for name in sorted(roots(mail) - made.keys())}
    missing = tuple(sorted(made.keys() - facts.keys()))
    names = {**made, **facts}
    customer = {"locale": shop.model.locale, "timezone": shop.model.timezone, **names.get("customer", {})}
    if locale is not None:
        customer["locale"] = locale
    if "customer" in missing:
        customer |= {"timezone": shop.model.timezone, "locale": locale or shop.model.locale, "stage": None}
    names["customer"] = customer
    codes = dict.fromkeys(letters.programmes(mail), "EXAMPLE-CODE")
    variants = {
        name: variant
        for name in letters.tried(mail)
        if name in catalog.referrals and (variant := catalog.referrals[name].variant_of(_number(customer))) is not None
    }
    extra = {
        "team": next(iter(shop.model.teams), "team"),
        "about": "What the flow says to the team stands here.",
        "task": "call",
        "due": now.date().isoformat(),
    }
    example_review = {"count": 12, "average": "4.6", "quote": "\u201cAn example of a review.\u201d (Sam E.)"}
    reviews = dict.fromkeys(letters.reviewed(mail), example_review)
    further = extra if mail.kind == "team" else {}
    stored = letters.context(mail, names, codes, further, variants, reviews=reviews)
    topic = mail.topic or next((flow.topic for flow in _senders(catalog, template) if flow.topic), None)
    head = Letterhead(shop=shop, public_url=public_url, private_url=public_url, secret=KEY)
    to = Addressed(touchpoint_id=0, customer_id=0, kind=mail.kind, topic=topic)
    return Preview(locale=locale, rendered=letters.render(mail, stored, head, to), examples=missing)


def as_test(found: Preview) -> Rendered:
    """The same mail, saying in its subject that it is a test."""
    mark = f"[Test {found.locale}]" if found.locale else "[Test]"
    return replace(found.rendered, subject=f"{mark} {found.rendered.subject}")


def _number(customer: Mapping[str, Any]) -> int:
    given = str(customer.get("id") or 0)
    return int(given) if given.isdecimal() else 0


def _senders(catalog: Catalog, template: str) -> list[Flow]:
    def sends(step: object) -> bool:
        return (isinstance(step, Send) and step.template == template) or (
            isinstance(step, Notify) and template == NOTICE
        )

    return [flow for _, flow in sorted(catalog.flows.items()) if any(map(sends, flow.steps.values()))]


def _shapes(catalog: Catalog, mail: Mail, template: str) -> dict[str, Shape]:
    """What is known of the facts that a mail reads: from the flows that send it, else from every event."""
    supplied: World = world(catalog.shop, catalog.sources.values(), whole=True)
    found: dict[str, Shape] = {}
    for flow in _senders(catalog, template):
        reached = arrivals(flow)
        for step in flow.steps.values():
            if isinstance(step, Send) and step.template == template and step.id in reached:
                for name, shape in names_at(flow, supplied, reached[step.id]).given.items():
                    if shape is not None:
                        found[name] = merged(found[name], shape) if name in found else shape
    anywhere = all_merged(group for group in supplied.events.values() if group)
    return {
        **{name: anywhere[name] for name in roots(mail) if name in anywhere},
        "customer": supplied.customer or {},
        **found,
    }


def example(name: str, shape: Shape, now: datetime) -> Any:
    """Something of a shape, such as a customer could bring it."""
    match shape:
        case ListShape(entry=entry):
            return [example(name.removesuffix("s"), entry, now)] * 2
        case "list":
            return [f"example {name}"]
        case "number":
            return _NUMBERS.get(name, Decimal("42.00"))
        case "yes-no":
            return False
        case "date":
            return now
        case str():
            return _text(name, now)
        case _:
            return {inner: example(inner, shape[inner], now) for inner in shape}


def _text(name: str, now: datetime) -> str | None:
    if name in ("currency", "timezone", "locale"):
        return None  # the shop's own stands in
    if name.endswith(("_at", "_on", "_until", "date")):
        return now.isoformat()
    if name.endswith("url"):
        return "https://example.com/"
    return _TEXTS.get(name, f"example {name}")
