"""What is queued goes or does not, as `workers.deliver` has it where mails stay in the outbox."""

from collections.abc import Mapping
from typing import Any

from afterglow import letters, pacing, rails, touchpoint
from afterglow.decide import Facts, stopping
from afterglow.expressions import RenderError
from afterglow.letters import Addressed
from afterglow.testing.memory import Memory, Touchpoint


def deliver(memory: Memory) -> None:
    """What `deliver` does with what is queued and due, where mails stay in the outbox."""
    due = [letter for letter in memory.queue if letter.due_at <= memory.now]
    for letter in sorted(due, key=lambda letter: _precedence(memory, letter)):
        _prepare(memory, letter)


def _precedence(memory: Memory, letter: Touchpoint) -> tuple[Any, ...]:
    return touchpoint.precedence(
        memory.shop,
        due_at=letter.due_at,
        kind=letter.kind,
        flow=letter.run.flow.name,
        queued_at=letter.queued_at,
        number=letter.number,
    )


def _prepare(memory: Memory, letter: Touchpoint) -> None:
    run, facts = letter.run, memory.facts(letter.run)
    if (stop := stopping(run.flow, memory.run_of(run, letter.step, None), facts)) is not None:
        memory.queue.remove(letter)
        run.state, run.due_at = "stopped", None
        memory.note(run, "stopped", letter.step, stop.decisions[0].detail, None, stop.reason)
        return
    match _verdict(memory, letter, facts):
        case rails.Skip(reason=reason):
            _end(memory, letter, "skipped", {"because": reason})
        case rails.Hold(reason=reason):
            memory.queue.remove(letter)
            memory.note_of(letter, "held", {"because": reason})
        case rails.Defer(until=until, reason=reason, anew=anew):
            letter.due_at = until
            letter.queued_at = until if anew else letter.queued_at
            memory.note_of(letter, "deferred", {"because": reason, "until": until.isoformat()})
        case rails.Go(basis=basis):
            _send(memory, letter, facts, basis)


def _verdict(memory: Memory, letter: Touchpoint, facts: Facts) -> rails.Verdict:
    question, rates = _question(memory, letter, facts), pacing.rates(memory.shop, letter.run.flow)
    return pacing.paced(rails.judge(question, memory.now), question, rates, memory.now, lambda: memory.pace)


def _question(memory: Memory, letter: Touchpoint, facts: Facts) -> rails.Question:
    flow = letter.run.flow
    return touchpoint.question(
        kind=letter.kind,
        topic=letter.topic,
        step=letter.step,
        queued_at=letter.queued_at,
        due_at=letter.due_at,
        flow=flow,
        current=flow,
        facts=facts,
        person=memory.person,
        shop=memory.shop,
        suppressed=memory.suppressed,
        consents=list(memory.words.values()),
        is_halted=False,
        is_held_out=letter.run.held_out,
        sent=memory.sent,
    )


def _send(memory: Memory, letter: Touchpoint, facts: Facts, basis: str | None) -> None:
    locale = memory.person.locale if letter.kind != "team" else None
    name = memory.catalog.in_language(letter.template, locale)
    mail = memory.catalog.mails.get(name)
    if mail is None:
        _end(memory, letter, "failed", {"because": f"there is no template {letter.template} in force"})
        return
    address, extra = touchpoint.addressee(
        letter.kind, letter.step, letter.run.flow, facts, memory.person, memory.shop, letter.due_on
    )
    if address is None:
        _end(memory, letter, "failed", {"because": "shop.yaml names no address for this team"})
        return
    secret, customer = memory.under_test.secret, memory.person.id
    codes = {name: letters.referral_code(secret, name, customer) for name in letters.programmes(mail)}
    variants = touchpoint.variants(mail, memory.catalog, customer)
    stored = letters.context(mail, facts.names(), codes, extra, variants)
    to = Addressed(touchpoint_id=letter.number, customer_id=customer, kind=letter.kind, topic=letter.topic)
    try:
        rendered = letters.render(mail, stored, memory.under_test.head, to)
    except RenderError as error:
        _end(memory, letter, "failed", {"because": f"{name}: {error}"})
        return
    if memory.is_told:
        memory.lived.letters.append(rendered)
    if letter.kind == "marketing":
        memory.sent.append(rails.Went(memory.now, letter.run.flow.name))
    detail = {"template": letter.template} | touchpoint.went(basis, mail.locale)
    _end(memory, letter, "sent", detail)


def _end(memory: Memory, letter: Touchpoint, verb: str, detail: Mapping[str, Any]) -> None:
    """Settle a touchpoint; its run goes on."""
    memory.queue.remove(letter)
    memory.note_of(letter, verb, detail)
    if letter.run.state == "sending":
        letter.run.state, letter.run.due_at = "waiting", memory.now
