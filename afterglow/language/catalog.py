"""Everything a shop wrote, compiled together: the shop, its stages, flows, sources, programmes and templates.

`compile_files` turns file texts into documents (what `apply` stores, content-addressed); `Catalog` is made from
documents again in every process, so that workers on different machines run the same words.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from afterglow import acting, returning, strict_yaml
from afterglow.language import starts
from afterglow.language.flow.compiler import read_flow, read_piece
from afterglow.language.flow.graph import Flow
from afterglow.language.picture import FOLDER, read_picture
from afterglow.language.pieces import file_of, joined, pieces_in
from afterglow.language.programme import Programme, read_loyalty
from afterglow.language.referral import ReferralProgramme, read_referral
from afterglow.language.segment import ENTERED, LEFT, Segment, read_segments
from afterglow.language.shop import Shop, StageModel, read_shop, read_stages
from afterglow.language.source import ANY_EVENT, Source, read_source, supplies
from afterglow.language.starts import OnDate, OverSegment
from afterglow.language.testing import without_tests
from afterglow.mail.locales import nearest, parted
from afterglow.mail.sources import TEAM_MAILS
from afterglow.mail_templates import Mail, compile_mail, load_mail, with_shop
from afterglow.problems import Problem, Problems, did_you_mean

SEGMENTS = "flows/segments.yaml"
#: The kinds of documents, in the order in which they are compiled.
KINDS = ("shop", "stages", "segments", "source", "programme", "flow", "template", "picture")


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """One file in the form in which it is put into force."""

    kind: str
    name: str
    body: str = field(repr=False)

    @property
    def digest(self) -> str:
        """SHA-256 of the body, in hex: the name under which a version is kept for ever."""
        return hashlib.sha256(self.body.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """The compiled files of one release."""

    shop: Shop
    stages: tuple[StageModel, ...]
    sources: Mapping[str, Source]
    flows: Mapping[str, Flow]
    mails: Mapping[str, Mail]
    programmes: Mapping[str, Programme | ReferralProgramme] = field(default_factory=dict)
    segments: Mapping[str, Segment] = field(default_factory=dict)
    #: Pictures of personas, as texts (`read_picture`), by their path below `pictures/`.
    pictures: Mapping[str, str] = field(default_factory=dict)
    #: Whether something may read `customer.segments`, so that somebody must know them.
    reads_segments: bool = False

    @cached_property
    def _in_languages(self) -> Mapping[str, Mapping[str, str]]:
        """The names of mails in other languages than the shop's: by plain name, then by locale in lower case."""
        found: dict[str, dict[str, str]] = {}
        for name in self.mails:
            plain, locale = parted(name)
            if locale is not None:
                found.setdefault(plain, {})[locale.lower()] = name
        return found

    def in_language(self, template: str, locale: str | None) -> str:
        """The mail that somebody of this locale gets where a flow sends a template: `email/welcome.fr`, or itself."""
        languages = self._in_languages.get(template)
        if languages is None or not locale:
            return template
        return next((languages[near] for near in nearest(locale) if near in languages), template)

    @cached_property
    def loyalty(self) -> Mapping[str, Programme]:
        """The programmes in which customers earn points."""
        return {name: found for name, found in self.programmes.items() if isinstance(found, Programme)}

    @cached_property
    def referrals(self) -> Mapping[str, ReferralProgramme]:
        """The programmes in which customers bring friends."""
        return {name: found for name, found in self.programmes.items() if isinstance(found, ReferralProgramme)}

    @cached_property
    def started_by_stage(self) -> Mapping[str, tuple[Flow, ...]]:
        """Live flows by the stage that starts them."""
        return _grouped(self.flows, lambda flow: flow.stage)

    @cached_property
    def started_by_event(self) -> Mapping[str, tuple[Flow, ...]]:
        """Live flows by the event that starts them."""
        return _grouped(self.flows, lambda flow: flow.event)

    @cached_property
    def heard_by_accounts(self) -> frozenset[str]:
        """The events of which colleagues are told, since a flow in force waits for them or stops by them."""
        return frozenset().union(*(flow.heard_by_account for flow in self.flows.values() if flow.status != "draft"))

    @cached_property
    def uses_accounts(self) -> bool:
        """Whether an event of one can mean anything to the others of the account."""
        per_account = any(flow.per_account for flow in self.flows.values() if flow.status == "live")
        return self.shop.model.accounts is not None and (per_account or bool(self.heard_by_accounts))

    @cached_property
    def on_dates(self) -> Mapping[str, OnDate]:
        """The dates that start flows, by flow; drafts start for nobody."""
        return {name: one.occasion for name, one in self._begun.items() if isinstance(one.occasion, OnDate)}

    @cached_property
    def over_segments(self) -> Mapping[str, OverSegment]:
        """The schedules and moments that start flows, by flow; drafts start for nobody."""
        return {name: one.occasion for name, one in self._begun.items() if isinstance(one.occasion, OverSegment)}

    @property
    def _begun(self) -> Mapping[str, Flow]:
        return {name: flow for name, flow in self.flows.items() if flow.status != "draft"}

    @cached_property
    def events(self) -> Mapping[str, Mapping[str, str]]:
        """Every event that the shop can know: what it carries, as kind by path."""
        return known_events(self.shop, self.sources.values())

    @cached_property
    def listened(self) -> frozenset[str]:
        """The events that start a flow, end a wait or a run, are a goal, or mean something to a loyalty programme."""
        flows = self.flows.values()
        started = {flow.event for flow in flows if flow.event is not None}
        started |= {flow.goal.event for flow in flows if flow.goal is not None}
        return frozenset(started).union(
            *(flow.listens_to for flow in flows), *(programme.events for programme in self.loyalty.values())
        )

    def owner(self, source: str, event: str) -> str | None:
        """The other source whose word counts for an event that this one tells of; None where its own does.

        A source whose requests name the event (`generic`) and our own ways in speak for the shop's own systems, and
        nobody else tells what they tell.
        """
        file = self.sources.get(source)
        owner = self.shop.owner(event)
        return owner if file is not None and event in file.event_names and owner != source else None

    @cached_property
    def joined_events(self) -> frozenset[str]:
        """The events of which one source's word counts and to which another may add."""
        return frozenset(
            rule.event
            for source in self.sources.values()
            for rule in source.events
            if rule.joins is not None
            and isinstance(rule.event, str)
            and self.owner(source.name, rule.event) is not None
        )

    @cached_property
    def undoing(self) -> frozenset[str]:
        """The events that undo an order here: those of every shop, and what its programmes listen to."""
        refunds = {one.refunds.event for one in self.loyalty.values() if one.refunds}
        return returning.ALWAYS.union(refunds, *(one.undone_by for one in self.referrals.values()))

    @cached_property
    def stage_names(self) -> frozenset[str]:
        """The names of the stages."""
        return frozenset(stage.stage for stage in self.stages)


#: Which step of which run an event of ours comes of.
BY: Mapping[str, str] = {"by.flow": "text", "by.step": "text", "by.run": "number"}
#: Which referral an event of ours is about, and whom it is told.
_REFERRAL: Mapping[str, str] = {"programme": "text", "referral": "number", "side": "text", "variant": "text"}
#: Events that we record ourselves.
OWN_EVENTS: Mapping[str, Mapping[str, str]] = {
    "survey.answered": {
        "score": "number",
        "survey": "text",
        "scale": "text",
        "comment": "text",
        "review.id": "text",
        "review.may_be_quoted": "yes-no",
        "review.wording": "text",
        **BY,
    },
    "task.done": {"task": "text", "team": "text", **BY},
    "review.permitted": {"review.id": "text", "review.may_be_quoted": "yes-no", "review.may_be_named": "yes-no"},
    "consent.granted": {"topic": "text"},
    "consent.withdrawn": {"topic": "text"},
    "points.earned": {"programme": "text", "points": "number", "rule": "text", "spendable_at": "date"},
    "points.expiring": {"programme": "text", "points": "number", "expires_at": "date"},
    "tier.reached": {"programme": "text", "tier": "text", "before": "text"},
    "tier.left": {"programme": "text", "tier": "text", "after": "text"},
    "reward.redeemed": {
        "programme": "text",
        "reward": "text",
        "about": "text",
        "points": "number",
        "code": "text",
        **BY,
    },
    acting.REFUSED: {"programme": "text", "reward": "text", "because": "text", **BY},
    acting.REDEEM: {"programme": "text", "reward": "text", **BY},
    acting.AWARDED: {"programme": "text", "points": "number", "because": "text", **BY},
    acting.SET: {"tags.add": "list", "tags.remove": "list", **BY},
    acting.MOVED: {"stage": "text", **BY},
    acting.ASKED: {"flow": "text"},  # `by` is a step, or somebody who asks from outside
    acting.STOP: {"flow": "text", **BY},
    acting.POSTED: {"webhook": "text", **BY},
    "referral.attributed": _REFERRAL,
    "referral.qualified": _REFERRAL,
    "referral.rewarded": {
        **_REFERRAL,
        "points": "number",
        "coupon": "text",
        "code": "text",
        "webhook": "text",
        "milestone": "number",
    },
    "referral.review": _REFERRAL,
    "referral.rejected": _REFERRAL,
    "referral.reversed": {
        **_REFERRAL,
        "points": "number",
        "coupon": "text",
        "webhook": "text",
        "milestone": "number",
    },
    ENTERED: {"segment.name": "text"},
    LEFT: {"segment.name": "text"},
    **starts.EVENTS,
    returning.UNWOUND: {"order.id": "text", "order.source": "text", "reason": "text", "by": "text"},
}


def known_events(shop: Shop, sources: Iterable[Source]) -> Mapping[str, Mapping[str, str]]:
    """What each event carries that a source, shop.yaml or we ourselves can supply, as kind by path."""
    found: dict[str, dict[str, str]] = {name: dict(fields) for name, fields in OWN_EVENTS.items()}
    every: list[Mapping[str, Mapping[str, str]]] = [*(supplies(source) for source in sources), shop.model.events]
    for supplied in every:
        for name, fields in supplied.items():
            if name != ANY_EVENT:
                found.setdefault(name, {}).update(fields)
    return found


def _grouped(flows: Mapping[str, Flow], by: Callable[[Flow], str | None]) -> Mapping[str, tuple[Flow, ...]]:
    groups: dict[str, tuple[Flow, ...]] = {}
    for flow in flows.values():
        key = by(flow)
        if key is not None and flow.status == "live":
            groups[key] = (*groups.get(key, ()), flow)
    return groups


def read_programme(text: str, file: str) -> Programme | ReferralProgramme:
    """Compile a programme file of either kind, which the file itself says.

    Raises:
      Problems: everything that is wrong with the file by itself, each with its place.
    """
    document = strict_yaml.load(text, file)
    kind = document.data.get("kind") if isinstance(document.data, dict) else None
    if kind == "referral":
        return read_referral(text, file)
    if isinstance(kind, str) and kind != "loyalty":
        meant = did_you_mean(kind, ("loyalty", "referral"))
        raise Problems([document.problem(("kind",), f"A programme is of the kind loyalty or referral.{meant}")])
    return read_loyalty(text, file)


def compile_files(files: Mapping[str, str]) -> tuple[Document, ...]:
    """The documents of a shop's files.

    Args:
      files: text by path below the shop's folder, such as "flows/welcome.yaml" or "templates/email/welcome.mjml".

    Raises:
      Problems: everything that is wrong in any single file. What is wrong between files is for `check`.
    """
    documents: list[Document] = []
    problems: list[Problem] = []
    pieces = pieces_in(files)
    for piece, text in pieces.items():
        try:
            read_piece(text, file_of(piece))
        except Problems as error:
            problems.extend(error.problems)

    def attempt(kind: str, name: str, file: str, compile_: Callable[[], object]) -> None:
        try:
            made = compile_()
        except Problems as error:
            problems.extend(error.problems)
            return
        own = made.name if isinstance(made, Flow | Source | Programme | ReferralProgramme) else name
        if own != name:
            problems.append(
                Problem(file, 1, 1, f"The file is called {name} and the {kind} in it '{own}'; make them equal.")
            )
        body = json.dumps(made, sort_keys=True, ensure_ascii=False) if kind == "template" else files[file]
        if isinstance(made, Flow):
            body = joined(without_tests(made.document) if made.tests else body, pieces)
        documents.append(Document(kind=kind, name=name, body=body))

    for required, kind, reader in (
        ("flows/shop.yaml", "shop", read_shop),
        ("flows/stages.yaml", "stages", read_stages),
    ):
        if required in files:
            attempt(kind, kind, required, lambda f=required, r=reader: r(files[f], f))  # type: ignore[misc]
        else:
            problems.append(Problem(required, 1, 1, "This file is missing; `afterglow init` writes one to begin with."))
    if SEGMENTS in files:
        attempt("segments", "segments", SEGMENTS, lambda: read_segments(files[SEGMENTS], SEGMENTS))
    for file in sorted(files):
        folder, _, base = file.rpartition("/")
        name, _, ending = base.rpartition(".")
        if folder == "flows" and ending == "yaml" and name not in ("shop", "stages", "segments"):
            attempt("flow", name, file, lambda f=file: read_flow(joined(files[f], pieces), f))  # type: ignore[misc]
        elif folder == "flows/sources" and ending == "yaml":
            attempt("source", name, file, lambda f=file: read_source(files[f], f))  # type: ignore[misc]
        elif folder == "flows/programmes" and ending == "yaml":
            attempt("programme", name, file, lambda f=file: read_programme(files[f], f))  # type: ignore[misc]
        elif file.startswith(FOLDER):
            attempt("picture", file.removeprefix(FOLDER), file, lambda f=file: read_picture(files[f], f))  # type: ignore[misc]
        elif folder == "templates/email" and ending == "mjml" and (not name.startswith("_") or name in TEAM_MAILS):
            attempt("template", f"email/{name}", file, lambda n=name: compile_mail(f"email/{n}", files))  # type: ignore[misc]
    if problems:
        raise Problems(tuple(problems))
    return tuple(sorted(documents, key=lambda document: (KINDS.index(document.kind), document.name)))


@lru_cache(maxsize=512)
def _read_mail(body: str) -> Mail:
    return load_mail(json.loads(body))


def read_documents(documents: Mapping[tuple[str, str], str]) -> Catalog:
    """The catalog of stored documents: body by (kind, name).

    Reading is pure, so what was read before is not read again: a new release costs what it changes.
    """

    def named(wanted: str) -> dict[str, str]:
        return {name: body for (kind, name), body in documents.items() if kind == wanted}

    shop = read_shop(documents["shop", "shop"], "flows/shop.yaml")
    return Catalog(
        shop=shop,
        stages=read_stages(documents["stages", "stages"], "flows/stages.yaml"),
        sources={name: read_source(body, f"flows/sources/{name}.yaml") for name, body in named("source").items()},
        flows={name: read_flow(body, f"flows/{name}.yaml") for name, body in named("flow").items()},
        mails={name: with_shop(_read_mail(body), shop.facts) for name, body in named("template").items()},
        programmes={
            name: read_programme(body, f"flows/programmes/{name}.yaml") for name, body in named("programme").items()
        },
        segments=read_segments(documents["segments", "segments"], SEGMENTS) if named("segments") else {},
        pictures=named("picture"),
        reads_segments=any(
            "segments" in body for (kind, _), body in documents.items() if kind in ("flow", "programme", "template")
        ),
    )
