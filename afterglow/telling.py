"""What happened to a customer, in plain words: the sentences of `why`, of a customer's page and of `export`.

Pure wording. A line carries its instant twice: as a moment, to sort by, and as the customer's wall clock shows it,
because "21:10" explains quiet hours and "20:10 UTC" does not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal
from zoneinfo import ZoneInfo

from afterglow.expressions import MISSING
from afterglow.language.segment import ENTERED, LEFT
from afterglow.language.starts import EVENTS as OCCASIONS

#: Causes before effects.
Kind = Literal["event", "stage", "consent", "inbox", "start", "refusal", "decision", "touchpoint", "note", "standing"]

#: Facts whose values are nobody's business in a list of reasons; a reason says only whether they are known.
_PRIVATE = frozenset({"customer.email", "customer.phone", "customer.first_name", "customer.last_name"})
#: Something that came later than this after it happened is told with both instants.
_LATE = timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One thing that happened to a customer, or did not.

    `when` is `at` for people; `detail` holds ids, names and instants, never personal data.
    """

    at: datetime
    when: str
    kind: Kind
    flow: str | None = None
    step: str | None = None
    sentence: str
    detail: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        where = " ".join(part for part in (self.flow, self.step) if part)
        return f"{self.when}  {where + ': ' if where else ''}{self.sentence}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """A touchpoint, as far as sentences need it."""

    template: str
    kind: str

    def __str__(self) -> str:
        return "The note to the team" if self.kind == "team" else f"Mail {self.template}"


def when(moment: datetime, zone: ZoneInfo) -> str:
    """An instant on the customer's clock, with UTC beside it: `Mon 2 Mar 2026 09:00 Europe/Paris (08:00 UTC)`."""
    local, utc = moment.astimezone(zone), moment.astimezone(UTC)
    if zone.key in ("UTC", "Etc/UTC"):
        return f"{_day(utc)} {utc:%H:%M} UTC"
    other = f"{utc:%H:%M}" if local.date() == utc.date() else f"{utc:%a %H:%M}"
    return f"{_day(local)} {local:%H:%M} {zone.key} ({other} UTC)"


def _day(moment: date) -> str:
    return f"{moment:%a} {moment.day} {moment:%b %Y}"


def decision(
    verb: str,
    step: str | None,
    detail: Mapping[str, Any],
    zone: ZoneInfo,
    *,
    message: Message | None = None,
    reason: str | None = None,
) -> str:
    """What a run did, as a sentence.

    Args:
      message: the touchpoint of that run and step, where there is one.
      reason: why the run ended, as stored with it.
    """
    what = str(message) if message else f"The message of {step}"
    because = _sentence_end(detail.get("because"))
    match verb:
        case "waits":
            return f"Waits until {_moment(detail, zone)}."
        case "held out":
            share, of = detail.get("share"), "any flow" if detail.get("by") == "shop" else "this flow"
            return (
                f"Is held out, as always for this customer: {share} of customers get no marketing of {of}, "
                "so that what it does can be seen. Service mail goes."
            )
        case "taken in":
            shares = " and ".join(f"{share} by the {by}" for by, share in detail.items())
            return f"Is not among the customers who are held out ({shares})."
        case "converted":
            out = ", though it was held out" if detail.get("held_out") else ""
            return f"Reached its goal{out}: {detail.get('name')} came (event {detail.get('event')})."
        case "passed over":
            then = "the flow ends here" if detail.get("stops") else "it goes on at once"
            then = "what follows is skipped, up to the next date" if detail.get("skips") else then
            return f"{detail.get('date')} is {detail.get('was')}, so there is nothing to wait until: {then}."
        case "waits for":
            return f"Waits for {detail.get('event')}, until {_moment(detail, zone)} at the latest."
        case "arrived":
            came = f"{detail.get('name')} came (event {detail.get('event')}){_whose(detail)}"
            return f"{came}, which this step was waiting for."
        case "timed out":
            return f"{detail.get('waited_for')} did not come in time, so the flow goes on without it."
        case "chose" if "elif" in detail:
            return f"`{detail.get('if')}` was the first that was true: it takes that branch of `elif`."
        case "chose" if "nor" in detail:
            none = ", ".join(f"`{text}`" for text in (detail.get("if"), *detail["nor"]))
            return f"None was true of {none}: it takes `else`."
        case "chose":
            was = "true: it takes `then`" if detail.get("was") else "not true: it takes `else`"
            return f"`{detail.get('if')}` was {was}."
        case "split":
            return f"Falls into branch {detail.get('branch')}, as always for this customer."
        case "not for":
            role = f"whose role is {detail['role']}" if detail.get("role") else "whose role is not known"
            return f"Sends nothing to this customer, {role}: this is for {' or '.join(detail.get('to', ()))}."
        case "left to another":
            what = (
                "telling " + str(detail["webhook"])
                if "webhook" in detail
                else f"the note to the team {detail.get('team')}"
            )
            return f"Leaves {what} to the run that leads for the account."
        case "went over":
            where = "at the same step" if "was" not in detail else f"from step {detail['was'] or 'the last'}"
            ends = f"; its wait ends at {_moment(detail, zone)}" if "until" in detail else ""
            return f"Went over from version {detail.get('from')} of the flow to {detail.get('to')}, {where}{ends}."
        case "done before":
            return "This step was done in an older version of the flow, and is not done again."
        case "queued" if "task" in detail:
            due = f", due {_day(date.fromisoformat(detail['due']))}" if "due" in detail else ""
            return f"A task for the team {detail['team']}: {detail['task']}{due}. The note that tells them was queued."
        case "queued" if "team" in detail:
            return f"A note to the team {detail['team']} was queued."
        case "queued":
            return f"Mail {detail.get('template')} was queued."
        case "acted":
            return _acted(detail)
        case "did nothing":
            return f"Nothing comes of this step{because}."
        case "refused":
            return f"The reward was not given{because}."
        case "stopped by a flow":
            return f"Stopped by flow {detail.get('flow')} (event {detail.get('event')})."
        case "ended":
            return f"The flow ends here{because}."
        case "finished":
            return "The flow is done."
        case "stopped" if "stage" in detail:
            return f"Stopped because the customer is no longer in stage {detail['stage']}, which started it."
        case "stopped":
            named = reason or str(detail.get("name"))
            return f"Stopped because of {named} (event {detail.get('event')}){_whose(detail)}."
        case "sent":
            in_language = f" in its form for {detail['locale']}" if detail.get("locale") else ""
            return f"{what} was sent{in_language}{_ON_WHAT.get(str(detail.get('basis')), '')}."
        case "skipped":
            return f"{what} was not sent{because}."
        case "held":
            return f"{what} is held{because}; it goes on when that is taken back."
        case "deferred":
            return f"{what} has to wait{because}; it is looked at again at {_moment(detail, zone)}."
        case "failed":
            return f"{what} could not be made{because}."
        case "rejected":
            return f"{what} was refused by the provider{because}."
        case "in doubt":
            return f"{what} is in doubt{because}; it is not sent again."
        case "tried again":
            return f"{what} is tried again{because}."
        case "forgotten":
            return "The run ended because the customer was forgotten."
        case "unwound":
            return f"The run ended because nothing is left of its order (event {detail.get('event')})."
        case "merged":
            return "The run ended because two customers turned out to be one, and an older run of the same key stays."
        case _:
            rest = ", ".join(f"{name} {value}" for name, value in detail.items())
            return f"{verb.capitalize()}{': ' + rest if rest else ''}."


def _whose(detail: Mapping[str, Any]) -> str:
    return f", of customer {detail['colleague']} of the same account" if detail.get("colleague") else ""


def _acted(detail: Mapping[str, Any]) -> str:
    """What a step did besides sending."""
    match detail.get("did"):
        case "points.awarded":
            for_what = f" for {detail['because']}" if detail.get("because") else ""
            return f"Awards {detail.get('points')} points of {detail.get('programme')}{for_what}."
        case "reward.asked":
            return f"Asks {detail.get('programme')} for the reward {detail.get('reward')}, for the customer's points."
        case "customer.set":
            what = [*detail.get("set", ()), *(f"tag {tag}" for tag in detail.get("tags", ()))]
            without = detail.get("left_out")
            rest = f"; {', '.join(without)} is missing or of another kind and was left out" if without else ""
            return f"Sets {', '.join(what)}{rest}."
        case "stage.moved":
            return f"Moves the customer to stage {detail.get('stage')}."
        case "flow.asked":
            return f"Asks flow {detail.get('flow')} to start."
        case "flow.stopped":
            return f"Ends what runs of flow {detail.get('flow')}."
        case _:
            return f"Tells {detail.get('webhook')}, by a webhook."


#: On what basis a mail went; of service mail it goes without saying.
_ON_WHAT: Mapping[str, str] = {
    "consent": ", as the customer agreed",
    "existing-customer": ", as to an existing customer",
}


def _moment(detail: Mapping[str, Any], zone: ZoneInfo) -> str:
    until = detail.get("until")
    return when(datetime.fromisoformat(until), zone) if until else "an unknown moment"


def _sentence_end(because: object) -> str:
    return f": {str(because).rstrip('.')}" if because else ""


def fate(
    state: str,
    message: Message,
    zone: ZoneInfo,
    *,
    reason: str | None,
    due_at: datetime | None,
    leased_until: datetime | None,
) -> str:
    """Where a touchpoint stands, as a sentence."""
    because = _sentence_end(reason)
    match state:
        case "queued":
            return f"{message} is queued and goes, or does not, at {_or_unknown(due_at, zone)}{because}."
        case "held":
            return f"{message} is held{because}; it goes on when that is taken back."
        case "sending":
            lease = _or_unknown(leased_until, zone)
            return f"{message} is in the hands of the provider; if no answer is recorded by {lease} it is in doubt."
        case "in_doubt":
            return f"{message} is in doubt{because}; it is not sent again."
        case _:
            return decision(state, None, {"because": reason}, zone, message=message)


def standing(
    state: str,
    step: str | None,
    zone: ZoneInfo,
    *,
    due_at: datetime | None,
    awaits: str | None,
    reason: str | None,
) -> str | None:
    """Where a run stands that is not over, as a sentence; None where another line says it already."""
    match state:
        case "waiting" if awaits:
            return f"Still waits for {awaits}, until {_or_unknown(due_at, zone)} at the latest."
        case "waiting":
            return f"Goes on at {_or_unknown(due_at, zone)}."
        case "paused":
            return f"Stands still because its flow is paused; it was to go on at {_or_unknown(due_at, zone)}."
        case "parked":
            return (
                f"Set aside for a person to look at{_sentence_end(reason)}; `afterglow retry` lets it go on at {step}."
            )
        case _:
            return None


def _or_unknown(moment: datetime | None, zone: ZoneInfo) -> str:
    return when(moment, zone) if moment else "an unknown moment"


def event(
    name: str, source: str, payload: Mapping[str, Any], occurred_at: datetime, at: datetime, zone: ZoneInfo
) -> str:
    """That something happened, as a sentence. Of the payload only ids are told, and the names of segments."""
    if name in (ENTERED, LEFT) and isinstance(segment := payload.get("segment"), Mapping):
        return f"{'Entered' if name == ENTERED else 'Left'} segment {segment.get('name')}."
    ids = [f"{thing} {held['id']}" for thing, held in payload.items() if isinstance(held, Mapping) and "id" in held]
    if name in OCCASIONS:
        ids.insert(0, f"flow {payload.get('flow')}")
    late = f"; it happened on {when(occurred_at, zone)}" if abs(at - occurred_at) > _LATE else ""
    return f"{name} came from {source}{': ' + ', '.join(ids) if ids else ''}{late}."


def merging(name: str, payload: Mapping[str, Any]) -> str:
    """That two customers turned out to be one, or not, as a sentence."""
    said = payload.get("merge")
    if not isinstance(said, Mapping):
        return "Was merged with another customer, or told apart from one, who is forgotten."
    if name == "customer.merged":
        if not said.get("reason"):
            return f"Was taken to be customer {said.get('customer')} too."
        return (
            f"Turned out to be customer {said.get('customer')} too: {said.get('reason')}. All of theirs is kept here; "
            f"`afterglow unmerge {said.get('id')}` undoes it."
        )
    return f"Is not customer {said.get('customer')} after all: merge {said.get('id')} was undone."


def stage(name: str, entered_at: datetime, is_older: bool, zone: ZoneInfo) -> str:
    """That a stage was entered, as a sentence."""
    if is_older:
        return f"Entered stage {name} on {when(entered_at, zone)}; a later stage was known already and stays."
    return f"Entered stage {name}."


def consent(topic: str, granted: bool, channel: str, basis: str, evidence: Mapping[str, Any]) -> str:
    """What a customer allowed or refused, on what basis and how that came, as a sentence.

    A permission that is not the customer's own word is told as what it is.
    """
    which = "all topics" if topic == "*" else topic
    permitted = "Agreed to" if basis == "consent" else "May get"
    what = permitted if granted else "Unsubscribed from"
    return f"{what} marketing by {channel} on {which} ({basis}{proof(evidence)})."


def proof(evidence: Mapping[str, Any]) -> str:
    """How a word on consent came: `, from shopify: "confirmed_opt_in"`; nothing where nothing was kept."""
    source, words = evidence.get("source"), evidence.get("words") or evidence.get("by")
    said = f': "{words}"' if words else ""
    return f", from {source}{said}" if source else ""


def zone(name: str, taken_from: str | None, *, country: str | None, region: str | None) -> str:
    """Which zone a customer's clock follows and why, as a sentence.

    Args:
      taken_from: of `afterglow.whereabouts.Origin`; None where it is the shop's.
      country, region: of the customer's newest address.
    """
    return f"Time zone {name}, {_taken(taken_from, country, region)}."


def language(locale: str, taken_from: str | None, *, country: str | None) -> str:
    """Which language a customer is taken to read and why, as a sentence; the arguments are those of `zone`."""
    return f"Language {locale}, {_taken(taken_from, country, None)}."


def _taken(taken_from: str | None, country: str | None, region: str | None) -> str:
    match taken_from:
        case None:
            return "the shop's"
        case "address":
            return f"from the address ({', '.join(part for part in (country, region) if part)})"
        case "phone":
            return "from the country of the phone number"
        case "locale":
            return "from the region of the customer's locale"
        case _:
            return "as a source told"


def values(names: frozenset[str], facts: Mapping[str, Any]) -> dict[str, str]:
    """What a condition saw, by name: `{"customer.orders": "2", "order.total": "missing"}`, without personal data."""
    return {name: shown(name, _reach(facts, name)) for name in sorted(names)}


def _reach(facts: Mapping[str, Any], dotted: str) -> object:
    value: object = facts
    for part in dotted.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return MISSING
        value = value[part]
    return value


def shown(name: str, value: object) -> str:
    """A value that a condition saw under a name, in words; of what is personal only whether it is known."""
    if value is MISSING or value is None:
        return "missing"
    if name in _PRIVATE:
        return "known"
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return f'"{value[:80]}"'
        case int() | Decimal():
            return str(value)
        case datetime():
            return value.isoformat()
        case list():
            return f"a list of {len(value)}"
        case Mapping():
            return "an object"
        case _:
            return str(value)[:80]
