"""`ledger`: prove it, explain an entry, state what a customer has, what is owed to all; and correct it by hand."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from db.proof import Owed, Verdict
    from workers.commands.opening import Desk

Customer = Annotated[str, typer.Argument(help="An address, our number, or the id that a source uses.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON, for scripts.")]


def add_to(main: typer.Typer) -> None:
    """Declare the commands."""
    ledger = typer.Typer(help="Prove the ledger, explain it, and correct it.", no_args_is_help=True)
    for command in (verify, explain, statement, liability, adjust):
        ledger.command()(command)
    main.add_typer(ledger, name="ledger")


def verify(as_json: AsJson = False) -> None:
    """Rebuild every balance and lot from the entries, and follow every chain. Status 1 where something differs."""
    from dataclasses import asdict

    from db import proof
    from workers.commands.console import say_json
    from workers.commands.opening import opened

    with opened() as desk, desk.database.reading() as connection:
        found = proof.verify(connection)
    if as_json:
        say_json(asdict(found))
    else:
        say_verdict(found)
    if found.differences:
        raise typer.Exit(1)


def say_verdict(found: "Verdict") -> None:
    """What differs, and in one line whether everything adds up."""
    from workers.commands.console import complain, count, say

    for difference in found.differences:
        complain(difference)
    looked = f"{count(found.transactions, 'transaction')}, {count(found.accounts, 'account')}"
    if found.forgotten:
        looked += f", {count(found.forgotten, 'customer')} forgotten"
    if found.differences:
        say(f"{looked}: {count(len(found.differences), 'difference')}.", style="bold red")
    else:
        say(f"{looked}: everything adds up.", style="bold")


def explain(
    entry: Annotated[int, typer.Argument(help="The number of a transaction, as `statement` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Say why an entry stands in the ledger: the rule and its file, what it read, and the webhook that caused it."""
    from dataclasses import asdict

    from db import proof
    from workers.commands.console import moment, say, say_json
    from workers.commands.opening import opened

    with opened() as desk, desk.database.reading() as connection:
        found = proof.explain(connection, entry)
    if as_json:
        say_json(asdict(found))
        return
    t = found.transaction
    say(f"Transaction {t['id']}: {t['kind']} of {t['granted']} {t['asset']} in {t['programme']}", style="bold")
    say(f"of customer {t['customer_id']}, at {moment(t['event_at'])}, recorded {moment(t['recorded_at'])}", indent=2)
    if t["desired"] != t["granted"]:
        say(f"{t['desired']} was desired; a cap, a budget or the policy left {t['granted']}.", indent=2)
    if found.document:
        say(f"by rule '{t['rule']}' of {found.document['name']}, as it was: {found.document['digest'][:12]}", indent=2)
    elif t["rule"]:
        say(f"by rule '{t['rule']}'", indent=2)
    if found.event:
        e = found.event
        say(f"because of {e['name']} from {e['source']}, key {e['key']} (event {e['id']})", indent=2)
    if t["author"]:
        say(f"by {t['author']}: {t['reason']}", indent=2)
    for name, value in t["inputs"].items():
        say(f"{name} = {value}", indent=4)
    for leg in found.postings:
        where = leg["house"] or f"{leg['role']} of customer {leg['customer_id']}, entry {leg['entry']}"
        say(f"{leg['amount']:+,} {where}", indent=2)
    for lot in found.lots:
        until = f"until {moment(lot['expires_at'])}" if lot["expires_at"] else "for ever"
        left = f"{lot['remaining']} of {lot['amount']} left"
        say(f"lot {lot['id']}: from {moment(lot['activates_at'])} {until}; {left}", indent=2)
    for one in found.allocations:
        say(
            f"{'drawn from' if one['amount'] > 0 else 'returned to'} lot {one['lot_id']}: {abs(one['amount'])}",
            indent=2,
        )
    if t["undoes"]:
        say(f"undoes transaction {t['undoes']}", indent=2)
    for id_ in found.undone_by:
        say(f"undone by transaction {id_}", indent=2)


def statement(
    customer: Customer,
    as_of: Annotated[
        datetime | None, typer.Option("--as-of", help="As the ledger stood at this instant (UTC); now unless given.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a customer has, and by which transactions."""
    from dataclasses import asdict
    from datetime import UTC

    from db import proof
    from workers.commands.console import moment, say, say_json, say_next, say_table
    from workers.commands.opening import opened

    with opened() as desk, desk.database.reading() as connection:
        found = desk.customer(connection, customer)
        at = desk.now(connection) if as_of is None else as_of.replace(tzinfo=as_of.tzinfo or UTC)
        said = proof.statement(connection, found, at)
    if as_json:
        standing = [
            {"programme": programme, "asset": asset, **asdict(one)} for (programme, asset), one in said.standing.items()
        ]
        lines = [asdict(line) for line in said.lines]
        say_json({"customer": found, "as_of": said.as_of, "standing": standing, "lines": lines})
        return
    say(f"Customer {found} as of {moment(said.as_of)}", style="bold")
    for (programme, asset), one in said.standing.items():
        parts = [f"{one.spendable:,} to spend"]
        parts += [f"{amount:,} {word}" for amount, word in ((one.pending, "pending"), (one.held, "held"), (one.debt, "debt")) if amount]  # fmt: skip  # noqa: E501
        if one.expires_at:
            parts.append(f"{one.expiring:,} of it until {moment(one.expires_at)}")
        say(f"{programme}, {asset}: {', '.join(parts)}", indent=2)
    if not said.lines:
        say("Nothing in the ledger.", indent=2)
        return
    say_table(
        ["entry", "at", "programme", "kind", "amount", "of", "rule or reason"],
        [
            (line.id, line.event_at, line.programme, line.kind, line.amount, line.asset, line.rule or line.reason)
            for line in said.lines
        ],
        numbers=["entry", "amount"],
    )
    say_next((f"afterglow ledger explain {said.lines[-1].id}", "why an entry stands there"))


def liability(as_json: AsJson = False) -> None:
    """Say what is owed to all customers: outstanding, pending, when it expires, and what never gets spent."""
    from dataclasses import asdict

    from db import proof
    from workers.commands.console import say_json
    from workers.commands.opening import opened

    with opened() as desk, desk.database.reading() as connection:
        owed = proof.liability(connection, desk.now(connection))
    if as_json:
        say_json(
            [
                asdict(one) | {"cohorts": [asdict(month) | {"breakage": month.breakage} for month in one.cohorts]}
                for one in owed
            ]
        )
        return
    say_liability(owed)


def say_liability(owed: "Sequence[Owed]") -> None:
    """What is owed, by programme and asset."""
    from workers.commands.console import say, say_table

    if not owed:
        say("Nothing was ever posted.")
    for one in owed:
        say(f"{one.programme}, {one.asset}: {one.outstanding:,} outstanding", style="bold")
        say(f"of which {one.pending:,} pending and {one.held:,} held; {-one.debt:,} owed to us", indent=2)
        if one.expiring:
            say_table(["expires in", "amount"], list(one.expiring.items()), numbers=["amount"])
        if one.cohorts:
            say_table(
                ["earned in", "issued", "spent", "expired", "taken back", "left", "breakage"],
                [
                    (m.month, m.issued, m.spent, m.expired, m.clawed_back, m.remaining, f"{m.breakage:.1%}")
                    for m in one.cohorts
                ],
                numbers=["issued", "spent", "expired", "taken back", "left", "breakage"],
            )


def adjust(
    customer: Customer,
    programme: Annotated[str, typer.Argument(help="The programme's name.")],
    amount: Annotated[int, typer.Argument(help="What to give, or to take where it is negative (after --).")],
    reason: Annotated[str, typer.Option(help="Why; it stays until the customer is forgotten.")],
    author: Annotated[str | None, typer.Option(help="Who says so; you unless given.")] = None,
    asset: Annotated[str, typer.Option(help="What is given or taken.")] = "points",
    key: Annotated[str | None, typer.Option(help="Makes it happen once, however often it is asked for.")] = None,
    as_json: AsJson = False,
) -> None:
    """Give or take points by hand. What is given can be spent at once and never expires."""
    from dataclasses import asdict

    from db import ledger, people
    from workers.commands.console import complain, say, say_json, say_next
    from workers.commands.opening import me, opened

    with opened() as desk, desk.database.writing() as connection:
        _known_place(desk, connection, programme, asset)
        found = people.lock_kept(connection, desk.customer(connection, customer))
        now = desk.now(connection)
        given: dict[str, Any] = {
            "programme": programme,
            "asset": asset,
            "customer_id": found,
            "kind": "adjust",
            "key": key or f"by hand at {now.isoformat()}",
            "amount": abs(amount),
            "event_at": now,
            "author": author or me(),
            "reason": reason,
        }
        if not amount:
            raise typer.BadParameter("An adjustment of nothing is none.")
        change = ledger.Credit(**given, activates_at=now) if amount > 0 else ledger.Spend(**given)
        (outcome,) = ledger.post(connection, [change], now)
    if isinstance(outcome, ledger.Refused):
        complain(f"Customer {found} keeps what they have: {outcome.reason}")
        raise typer.Exit(1)
    if as_json:
        say_json(asdict(outcome))
        return
    verb = "was already" if outcome.was_there else "is"
    say(f"The adjustment of {amount:+,} {asset} {verb} transaction {outcome.id}.", style="bold")
    say_next((f"afterglow ledger statement {found}", "what the customer has now"))


def _known_place(desk: "Desk", connection: "Connection", programme: str, asset: str) -> None:
    """Refuse a programme or an asset that neither the files in force nor the ledger knows: a slip of the pen."""
    from afterglow.problems import did_you_mean
    from db import ledger
    from db.catalog import NothingAppliedError
    from workers.commands.opening import UnknownError

    try:
        loyalty = desk.release(connection).catalog.loyalty
    except NothingAppliedError:
        return
    known = {(name, of) for name, one in loyalty.items() for of in (one.asset, "credit")}
    known |= ledger.places(connection)
    programmes = sorted({name for name, _ in known})
    if programme not in programmes:
        raise UnknownError(
            f"There is no loyalty programme '{programme}'; there are {', '.join(programmes) or 'none'}."
            f"{did_you_mean(programme, programmes)}"
        )
    assets = sorted(of for name, of in known if name == programme)
    if asset not in assets:
        raise UnknownError(f"'{programme}' has no '{asset}'; it has {', '.join(assets)}.{did_you_mean(asset, assets)}")
