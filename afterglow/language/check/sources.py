"""Hold shop.yaml and the source files against the rest."""

from collections.abc import Collection, Iterator, Mapping

from afterglow import strict_yaml
from afterglow.language.check.supply import KINDS, World
from afterglow.language.shop import Shop
from afterglow.language.source import RESERVED, Source
from afterglow.problems import Problem, did_you_mean


def check_shop(shop: Shop, flows: Collection[str], world: World) -> Iterator[Problem]:
    """What shop.yaml names that is not there, and what it calls by names that are taken."""
    problem = shop.document.problem
    for n, flow in enumerate(shop.model.priority):
        if flow not in flows:
            yield problem(("priority", n), f"There is no flow '{flow}'.{did_you_mean(flow, flows)}")
        elif flow in shop.model.priority[:n]:
            yield problem(("priority", n), f"'{flow}' stands here twice.")
    for n, topic in enumerate(shop.model.existing_customers.may_mail_about):
        if topic not in shop.model.topics:
            meant = did_you_mean(topic, shop.model.topics)
            yield problem(("existing_customers", "may_mail_about", n), f"There is no topic '{topic}'.{meant}")
    if world.whole and shop.model.order_event not in world.events:
        event = shop.model.order_event
        yield problem(("order_event",), f"No source brings an event '{event}'.{did_you_mean(event, world.events)}")
    for event, fields in shop.model.events.items():
        for path, kind in fields.items():
            if kind not in KINDS:
                message = f"'{kind}' is not a kind: use {', '.join(KINDS)}.{did_you_mean(kind, KINDS)}"
                yield problem(("events", event, path), message)
            if (taken := path.partition(".")[0]) in RESERVED:
                message = f"An event may not carry '{taken}': flows know something else by that name."
                yield shop.document.key_problem(("events", event, path), message)


def check_owners(shop: Shop, sources: Mapping[str, Source]) -> Iterator[Problem]:
    """One source owns each event; another one may only add to it.

    Args:
      sources: by file. Events named `customer.*` are news about a person, and every source may bring them.
    """
    names = {source.name for source in sources.values()}
    bring: dict[str, list[str]] = {}
    for source in sources.values():
        for event in source.event_names:
            bring.setdefault(event, []).append(source.name)
    for named, owner in shop.model.owners.items():
        meant = [event for event in bring if named in (event, event.partition(".")[0])]
        if not meant:
            message = f"No source brings '{named}' or any '{named}.…'.{did_you_mean(named, bring)}"
            yield shop.document.key_problem(("owners", named), message)
        elif owner not in names:
            message = f"There is no source '{owner}' in flows/sources/.{did_you_mean(owner, names)}"
            yield shop.document.problem(("owners", named), message)
        elif not any(owner in bring[event] for event in meant):
            yield shop.document.problem(("owners", named), f"The source '{owner}' brings no '{named}'.")
    for file, source in sources.items():
        for event in sorted(source.event_names):
            first, *others = sorted(bring[event])
            if source.name in others and shop.owner(event) is None and not event.startswith("customer."):
                message = (
                    f"{first} brings {event} too, and what happened once would count twice; say in shop.yaml whose "
                    f"word counts, such as `owners: {{{event}: {first}}}`."
                )
                yield Problem(file, 1, 1, message)


def check_source(
    source: Source, text: str, file: str, shop: Shop | None, stages: Collection[str] | None
) -> Iterator[Problem]:
    """What a source names that shop.yaml and stages.yaml do not have."""
    document = strict_yaml.load(text, file)
    topics: Mapping[str, object] | None = shop.model.topics if shop else None
    for n, rule in enumerate(source.events):
        if isinstance(rule.stage, str) and stages is not None and rule.stage not in stages:
            meant = did_you_mean(rule.stage, stages)
            yield document.problem(("events", n, "stage"), f"There is no stage '{rule.stage}' in stages.yaml.{meant}")
        if rule.consent is not None and isinstance(rule.consent.topic, str) and topics is not None:
            topic = rule.consent.topic
            if topic != "*" and topic not in topics:
                meant = did_you_mean(topic, topics)
                path = ("events", n, "consent", "topic")
                yield document.problem(path, f"There is no topic '{topic}' in shop.yaml.{meant}")
        if rule.customer is not None and shop is not None:
            for name in rule.customer.named_attributes:
                if name not in shop.attributes:
                    meant = did_you_mean(name, [*shop.attributes, *type(rule.customer).model_fields])
                    message = f"'{name}' is not declared in shop.yaml under attributes.{meant}"
                    yield document.key_problem(("events", n, "customer", name), message)
        if rule.account is not None and shop is not None:
            declared = shop.model.accounts.attributes if shop.model.accounts is not None else {}
            for name in rule.account.named_attributes:
                if name not in declared:
                    meant = did_you_mean(name, [*declared, *type(rule.account).model_fields])
                    message = f"'{name}' is not declared in shop.yaml under accounts: attributes.{meant}"
                    yield document.key_problem(("events", n, "account", name), message)
