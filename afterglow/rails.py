"""Whether a queued touchpoint may go now. Checked at every send, in this order, whatever was true when it was queued.

The order matters for what a customer is told by `why`: a person's own word (consent) before the shop's rules, and
what ends a touchpoint before what only delays it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from afterglow.durations import Duration
from afterglow.language.rails import LATE_AFTER, Blackout, Late, Loser
from afterglow.language.shop import Cap
from afterglow.language.source import Basis
from afterglow.local_time import Opening, Quiet, next_opening, quiet_until

#: Why marketing is held while somebody has halted it.
HALTED: Final = "marketing is halted"


@dataclass(frozen=True, kw_only=True, slots=True)
class Go:
    """It may go now, and on what basis; None for a note to the shop's own people."""

    basis: Basis | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Defer:
    """Not now, but at `until`. Where it is `anew`, it has not waited yet by then: the shop meant it to go so late."""

    until: datetime
    reason: str
    anew: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Skip:
    """It never goes; the run goes on."""

    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Hold:
    """It stands still until a person says otherwise."""

    reason: str


Verdict = Go | Defer | Skip | Hold


@dataclass(frozen=True, kw_only=True, slots=True)
class Consent:
    """What a customer said about a topic ("*": all of them), and on what basis."""

    topic: str
    granted: bool
    basis: str = "consent"


@dataclass(frozen=True, kw_only=True, slots=True)
class Existing:
    """What the shop lets itself write to who has bought, without their having agreed; nothing unless it says so."""

    topics: frozenset[str] = frozenset()
    #: Whether this customer has bought, as far as we know. A source may say so too, by a grant on that basis.
    has_bought: bool = False


NOT_BY_BUYING: Final = Existing()
#: Why marketing does not go that had to wait for longer than the shop keeps it.
TOO_LATE: Final = "it could not go in time"


class Went(NamedTuple):
    """A marketing touchpoint that went (or may have gone): when, and of which flow."""

    at: datetime
    flow: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """All that the rails look at for one touchpoint.

    `sent` is this customer's marketing, in any order. It waits since `queued_at`, and was to go at `due_at`.
    """

    kind: str
    flow: str
    topic: str | None
    queued_at: datetime
    due_at: datetime
    has_address: bool
    forgotten: bool
    suppressed: str | None  # "marketing", "everything" or None
    consents: Sequence[Consent]
    existing: Existing = NOT_BY_BUYING
    only_if: bool
    only_if_text: str
    halted: bool
    paused: bool
    blackouts: Sequence[Blackout] = ()
    quiet_hours: Sequence[Quiet]
    caps: Sequence[Cap]
    loser: Loser = "defer"
    keep_for: Duration
    late: Late = "send"
    #: The times of the week that the flow names for it; None where it names none.
    window: Opening | None = None
    sent: Sequence[Went]
    zone: ZoneInfo
    held_out: bool = False


def judge(question: Question, now: datetime) -> Verdict:
    """Whether this touchpoint may go now, later or never, and why."""
    if question.kind == "team":
        return Go()
    if question.forgotten:
        return Skip(reason="the customer was forgotten")
    if not question.has_address:
        return Skip(reason="the customer has no address on this channel")
    if question.suppressed == "everything":
        return Skip(reason="the address is suppressed")
    if question.paused:
        return Hold(reason="the flow is paused")
    if not question.only_if:
        return Skip(reason=f"only_if is not true: {question.only_if_text}")
    if question.kind == "service":
        return Go(basis="service")
    return _marketing(question, now)


def _marketing(question: Question, now: datetime) -> Verdict:
    if question.suppressed:
        return Skip(reason="the address is suppressed for marketing")
    if refusal := consent_refusal(question.consents, question.topic, question.existing):
        return Skip(reason=refusal)
    if question.held_out:
        return Skip(reason="the customer is held out")
    if question.halted:
        return Hold(reason=HALTED)
    if question.keep_for.after(question.queued_at, question.zone) < now:
        return Skip(reason=TOO_LATE)
    if (verdict := _late(question, now)) is not None:
        return verdict
    for blackout in question.blackouts:
        if until := blackout.until(now, question.zone):
            return Defer(until=until, reason=f"no marketing on these days ({blackout.because})", anew=True)
    for quiet in question.quiet_hours:
        if until := quiet_until(now, quiet, question.zone):
            return Defer(until=until, reason="quiet hours")
    for cap in question.caps:
        if until := capped_until(cap, [went.at for went in question.sent], now):
            reason = f"cap of {cap.at_most} within {cap.within}{_winners(question, cap, now)}"
            return Skip(reason=reason) if question.loser == "skip" else Defer(until=until, reason=reason)
    return Go(basis=basis_of(question.consents, question.topic, question.existing))


def _late(question: Question, now: datetime) -> Verdict | None:
    """What is declared for what comes to be sent so much later than it was due; None where it goes all the same."""
    lateness = now - question.due_at
    if question.late == "send" or lateness <= LATE_AFTER:
        return None
    reason = f"it is late by {lateness // timedelta(minutes=1)} minutes"
    if question.late == "skip":
        return Skip(reason=reason)
    until = next_opening(now, question.window, question.zone) if question.window else now
    return Defer(until=until, reason=reason, anew=True) if until > now else None


def _winners(question: Question, cap: Cap, now: datetime) -> str:
    """The other flows whose messages fill a cap, first come first, to be said with it."""
    inside = sorted(went for went in question.sent if went.at > now - cap.window)[-cap.at_most :]
    flows = [*dict.fromkeys(went.flow for went in inside if went.flow != question.flow)]
    return f", {' and '.join(flows)} went first" if flows else ""


def consent_refusal(consents: Sequence[Consent], topic: str | None, existing: Existing = NOT_BY_BUYING) -> str | None:
    """Why marketing on this topic is not allowed; None where it is.

    A withdrawal of everything or of the topic refuses, on whatever basis it was noted; otherwise `basis_of` decides.
    """
    refused = {consent.topic for consent in consents if not consent.granted}
    if "*" in refused:
        return "the customer unsubscribed from marketing"
    if topic is not None and topic in refused:
        return f"the customer unsubscribed from {topic}"
    if basis_of(consents, topic, existing) is not None:
        return None
    return f"the customer has not agreed to {topic or 'marketing'}"


def basis_of(consents: Sequence[Consent], topic: str | None, existing: Existing) -> Basis | None:
    """On what marketing on this topic rests, where nothing was withdrawn; None where it rests on nothing.

    The customer's own word for everything or for the topic; else, for topics that the shop opens to who has bought,
    a purchase. A grant on the basis `service` allows no marketing.
    """
    granted = {consent.basis for consent in consents if consent.granted and consent.topic in ("*", topic)}
    if "consent" in granted:
        return "consent"
    if topic in existing.topics and (existing.has_bought or "existing-customer" in granted):
        return "existing-customer"
    return None


def capped_until(cap: Cap, sent: Sequence[datetime], now: datetime) -> datetime | None:
    """When one more message fits under the cap; None where it fits now.

    The window is (now - window, now]: a message leaves it exactly one window after it went.
    """
    inside = sorted(moment for moment in sent if moment > now - cap.window)
    if len(inside) < cap.at_most:
        return None
    return max(inside[len(inside) - cap.at_most] + cap.window, now + timedelta(microseconds=1))
