"""Reads, afterwards, what everybody wrote down, and says which promise was broken.

Three witnesses: the shop's log of what was answered 2xx, the relay's fsynced log of what it accepted, the database.
A run that shows nothing (too little acknowledged, a planned fault that never happened, no mail) is a failure too.
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from db.tables import customers, enrollments, events, inbox, touchpoints
from tests.faults.rig import Rig
from tests.faults.shop import MARKETING, SERVICE, STEPS, step_of

#: Of the planned operations, this share must have been acknowledged for a run to mean anything.
ENOUGH = 0.8
#: What one lost process may leave in doubt.
IN_DOUBT_PER_LOSS = 50


@dataclass(kw_only=True)
class Verdict:
    """What was found. `broken` must be empty."""

    broken: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def hold(self, true: bool, sentence: str) -> None:
        """Note a broken promise where something is not true."""
        if not true:
            self.broken.append(sentence)


@dataclass(frozen=True, kw_only=True)
class Poison:
    """How many rows of each table may be set aside because they kill whoever works on them."""

    inbox: int = 0
    enrollments: int = 0
    touchpoints: int = 0


def judge(
    rig: Rig,
    *,
    customers_planned: int,
    posts: int,
    faults: set[str],
    senders_lost: int,
    poison: Poison | None = None,
) -> Verdict:
    """Hold an installation that has come to rest to its promises.

    Args:
      posts: how many webhooks were planned, copies included.
      faults: the kinds of fault that were planned.
      senders_lost: how many sending processes were killed or stood still; each may leave mails in doubt.
    """
    poison = poison or Poison()
    verdict = Verdict()
    verdict.figures["customers"] = customers_planned
    acknowledged = _lines(rig.acknowledged_log)
    _enough(verdict, rig, len(acknowledged), posts, faults)
    _webhooks(verdict, rig, {line["key"] for line in acknowledged}, customers_planned, poison)
    _runs(verdict, rig, customers_planned, poison)
    _mails(verdict, rig, senders_lost, poison)
    doctor = rig.command("doctor", "--json")
    verdict.hold(doctor.returncode == 0, f"the doctor found: {doctor.stdout}{doctor.stderr}")
    return verdict


def _lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def _rows(rig: Rig, query: sa.Select[Any]) -> list[Any]:
    with rig.database.reading() as connection:
        return list(connection.execute(query))


def _enough(verdict: Verdict, rig: Rig, acknowledged: int, posts: int, faults: set[str]) -> None:
    verdict.figures |= {"posts": posts, "acknowledged": acknowledged, "faults": dict(rig.faults)}
    verdict.hold(acknowledged >= ENOUGH * posts, f"only {acknowledged} of {posts} webhooks were acknowledged")
    verdict.hold(acknowledged <= posts, f"{acknowledged} acknowledgements for {posts} webhooks")
    for fault in faults:
        verdict.hold(rig.faults[fault] > 0, f"the planned fault '{fault}' never happened")


def _webhooks(verdict: Verdict, rig: Rig, promised: set[str], planned: int, poison: Poison) -> None:
    """Every webhook that was answered 2xx is exactly one event, of exactly one customer."""
    recorded = Counter(row.key for row in _rows(rig, sa.select(events.c.key)))
    parked = {row.key: row.reason for row in _rows(rig, sa.select(inbox).where(inbox.c.state == "parked"))}
    missing = promised - recorded.keys() - parked.keys()
    twice = [key for key, count in recorded.items() if count > 1]
    people = _rows(rig, sa.select(sa.func.count()).select_from(customers))[0][0]
    verdict.figures |= {"events": recorded.total(), "webhooks parked": len(parked)}
    verdict.hold(not missing, f"{len(missing)} webhooks were promised and are no event: {sorted(missing)[:5]}")
    verdict.hold(not twice, f"webhooks became two events: {sorted(twice)[:5]}")
    verdict.hold(len(parked) == poison.inbox, f"{len(parked)} webhooks are parked: {sorted(parked.items())[:5]}")
    verdict.hold(people <= planned, f"{people} customers were made of {planned}")


def _runs(verdict: Verdict, rig: Rig, planned: int, poison: Poison) -> None:
    """No step is lost: every run has come to its end, and each of its mails was queued once."""
    states = Counter(row.state for row in _rows(rig, sa.select(enrollments.c.state)))
    begun = planned - poison.inbox
    verdict.figures["runs"] = dict(states)
    expected = {"finished": begun - poison.enrollments} | ({"parked": poison.enrollments} if poison.enrollments else {})
    verdict.hold(states == expected, f"runs stand as {dict(states)}, and not as {expected}")
    steps = _rows(
        rig,
        sa.select(touchpoints.c.enrollment_id, touchpoints.c.step)
        .join(enrollments, enrollments.c.id == touchpoints.c.enrollment_id)
        .where(enrollments.c.state == "finished"),
    )
    counted = Counter(step_of(row.step) for row in steps)
    finished = states["finished"]
    verdict.hold(
        counted == dict.fromkeys(STEPS, finished), f"{finished} finished runs queued the mails {dict(counted)}"
    )


def _mails(verdict: Verdict, rig: Rig, lost: int, poison: Poison) -> None:
    """Marketing at most once, service mail at least once, and all that is in doubt is known to be."""
    t = touchpoints.c
    query = sa.select(t.id, t.customer_id, t.kind, t.step, t.state, t.reason, t.attempts)
    rows = {row.id: row for row in _rows(rig, query)}
    accepted = Counter(int(line["touchpoint"]) for line in rig.relay.accepts())
    states = Counter(f"{row.kind} {row.state}" for row in rows.values())
    doubtful = [row for row in rows.values() if row.state == "in_doubt"]
    verdict.figures |= {
        "mails accepted": accepted.total(),
        "touchpoints": dict(states),
        "in doubt and arrived": sum(1 for row in doubtful if accepted[row.id]),
        "service mails twice": sum(n - 1 for id_, n in accepted.items() if rows[id_].kind == "service"),
        "handed over again": sum(1 for row in rows.values() if row.attempts > 1),
        "senders lost": lost,
    }
    verdict.hold(accepted.total() > 0, "no mail went out")
    # Whoever dies of a row may have had nothing else in hands; whom the nemesis takes has.
    hit = doubtful or verdict.figures["handed over again"] or poison != Poison()
    verdict.hold(bool(hit) or not lost, "no sender had a mail in its hands when it was lost")
    twice = [id_ for id_, count in accepted.items() if rows[id_].kind == "marketing" and count > 1]
    verdict.hold(not twice, f"marketing went out twice: touchpoints {twice[:5]}")
    per_step = Counter((rows[id_].customer_id, step_of(rows[id_].step)) for id_ in accepted)
    again = [key for key, count in per_step.items() if count > 1 and key[1] in MARKETING]
    verdict.hold(not again, f"customers got a step's marketing under two touchpoints: {again[:5]}")
    unsent = [row.id for row in rows.values() if row.state == "sent" and not accepted[row.id]]
    verdict.hold(not unsent, f"mails count as sent that the relay never saw: {unsent[:5]}")
    secret = [id_ for id_ in accepted if rows[id_].state not in ("sent", "in_doubt")]
    verdict.hold(not secret, f"mails went out that do not count as sent or in doubt: {secret[:5]}")
    never = [row.id for row in rows.values() if row.step in SERVICE and row.state == "in_doubt"]
    verdict.hold(not never, f"service mails were given up in doubt: {never[:5]}")
    verdict.hold(
        len(doubtful) <= IN_DOUBT_PER_LOSS * lost, f"{len(doubtful)} mails are in doubt after {lost} lost senders"
    )
    failed = [row for row in rows.values() if row.state not in ("sent", "in_doubt")]
    verdict.hold(
        len(failed) == poison.touchpoints,
        f"{len(failed)} mails were not sent: {Counter((row.state, row.reason) for row in failed)}",
    )
