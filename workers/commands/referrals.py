"""`referrals`: who brought whom, what waits for a person, and why a referral stands where it does."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.commands.customers import Customer
from workers.commands.leaderboard import Format

if TYPE_CHECKING:
    from afterglow.language.catalog import Catalog
    from afterglow.language.referral import ReferralProgramme
    from db.coupons import Held
    from db.referring import Decision, Referral, Reward
    from workers.commands.opening import Desk

AsJson = Annotated[bool, typer.Option("--json", help="JSON, for scripts.")]
Number = Annotated[int, typer.Argument(help="The number of the referral.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, in your words; it is kept.")]
Author = Annotated[str, typer.Option("--author", help="Who decides; you, unless given.")]

family = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Who brought whom, and what waits for a look.")


def add_to(main: typer.Typer) -> None:
    """Declare the commands."""
    main.add_typer(family, name="referrals")


@family.command("list")
def list_(
    programme: Annotated[str | None, typer.Argument(help="Of this programme only.")] = None,
    state: Annotated[str | None, typer.Option("--state", help="attributed, qualified, review, rewarded, ...")] = None,
    customer: Annotated[str | None, typer.Option("--customer", help="Of this referrer or referee only.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000)] = 50,
    as_json: AsJson = False,
) -> None:
    """Show referrals, newest first."""
    from afterglow.errors import AfterglowError
    from afterglow.problems import did_you_mean
    from db import referring
    from db.tables import ReferralState
    from workers.commands.opening import opened

    if state is not None and state not in list(ReferralState):
        known = [one.value for one in ReferralState]
        raise AfterglowError(f"'{state}' is no state of a referral: {', '.join(known)}.{did_you_mean(state, known)}")
    with opened() as desk, desk.database.reading() as connection:
        if customer is not None:
            mine = referring.of_customer(connection, desk.customer(connection, customer), limit)
            found = [one for one in mine if one.programme == (programme or one.programme)]
            found = [one for one in found if state in (None, one.state.value)]
        else:
            found = referring.listed(connection, programme=programme, state=state, limit=limit)
        _show(desk, found, as_json, "No referral is like that.")


@family.command()
def review(as_json: AsJson = False) -> None:
    """Show what waits for a person, with what speaks against it."""
    from afterglow.referring.wording import findings
    from db import coupons, referring
    from db.tables import CouponState
    from workers.commands.console import say, say_json, say_next
    from workers.commands.opening import opened

    with opened() as desk, desk.database.reading() as connection:
        found = referring.listed(connection, state="review", limit=1_000)
        why = referring.decisions(connection, [one.id for one in found])
        aside = len(coupons.listed(connection, [CouponState.FAILED, CouponState.STUCK]))
    if as_json:
        say_json([{**_told(one), "because": _plain(why[one.id][-1])} for one in found])
        return
    if aside:
        say(f"Codes of coupons wait for a look, too: {aside}; `afterglow coupons list` shows them.")
    if not found:
        say("No referral waits for a look." if aside else "Nothing waits for a look.")
        return
    for one in found:
        last = why[one.id][-1]
        until = f", until {one.due_at:%Y-%m-%d %H:%M} UTC" if one.due_at else ""
        who = f"customer {one.referrer_id} brought {one.referee_id}"
        say(f"Referral {one.id} ({one.programme}): {who}; {last.because}{until}", style="bold")
        for line in findings(last.evidence):
            say(line, indent=2)
    first = found[0].id
    say_next(
        (f"afterglow referrals explain {first}", "everything that is known"),
        (f"afterglow referrals approve {first} --reason WHY", "it counts"),
        (f"afterglow referrals reject {first} --reason WHY", "it does not"),
    )


@family.command()
def approve(referral: Number, reason: Reason, author: Author = "", as_json: AsJson = False) -> None:
    """Let a referral count after all: it is rewarded once its hold has ended."""
    from db import reviewing
    from db.catalog import CatalogCache
    from workers.commands.opening import me, opened

    with opened() as desk, desk.database.writing() as connection:
        now = desk.now(connection)
        by = author or me()
        decided = reviewing.approve(connection, CatalogCache(), referral, author=by, reason=reason, now=now)
    _say_decided(decided, as_json)


@family.command()
def reject(referral: Number, reason: Reason, author: Author = "", as_json: AsJson = False) -> None:
    """Let a referral not count; what it brought is taken back. `approve` undoes this."""
    from db import reviewing
    from workers.commands.opening import me, opened

    with opened() as desk, desk.database.writing() as connection:
        now = desk.now(connection)
        decided = reviewing.reject(connection, referral, author=author or me(), reason=reason, now=now)
    _say_decided(decided, as_json)


@family.command()
def code(
    customer: Customer,
    name: Annotated[str, typer.Argument(help="The code, such as MAYA-10: letters, digits, hyphens.")],
    programme: Annotated[str | None, typer.Option("--programme", help="The referral programme, if several.")] = None,
    as_json: AsJson = False,
) -> None:
    """Give a customer a code that can be read aloud. The one from before goes on working."""
    from afterglow.errors import AfterglowError
    from afterglow.problems import did_you_mean
    from afterglow.referring.vanity import vanity
    from db import referrals
    from workers.commands.console import say, say_json
    from workers.commands.opening import opened

    with opened() as desk, desk.database.writing() as connection:
        catalog = desk.release(connection).catalog
        known = sorted(catalog.referrals)
        wanted = programme or (known[0] if len(known) == 1 else None)
        if wanted is None or wanted not in catalog.referrals:
            said = f"'{programme}' is no referral programme in force." if programme else "Name it with --programme."
            raise AfterglowError(f"{said} There is {', '.join(known) or 'none'}.{did_you_mean(programme or '', known)}")
        try:
            chosen = vanity(name, reserved_words(catalog))
        except ValueError as error:
            raise AfterglowError(str(error)) from None
        found = desk.customer(connection, customer)
        owner = referrals.choose(connection, desk.settings.secrets[0], found, wanted, chosen, desk.now(connection))
    link = f"{desk.settings.public_url}/r/{chosen}"
    if as_json:
        say_json({"customer": owner, "programme": wanted, "code": chosen, "link": link})
        return
    say(f"Customer {owner} has the code {chosen} in {wanted}: {link}")


def reserved_words(catalog: "Catalog") -> set[str]:
    """What means something else at this shop: its name, its programmes, and the names of their coupons."""
    gives = [
        one
        for programme in catalog.referrals.values()
        for one in (programme.referrer, programme.referee, *(milestone.gives for milestone in programme.milestones))
    ]
    coupons = {one.coupon for one in gives if one is not None and one.coupon}
    rewards = {reward.coupon for loyalty in catalog.loyalty.values() for reward in loyalty.rewards.values()}
    named = {catalog.shop.model.name, *catalog.referrals, *catalog.loyalty, *coupons}
    return named | {name for name in rewards if name is not None}


@family.command()
def explain(referral: Number, as_json: AsJson = False) -> None:
    """Say why a referral stands where it does: every decision with its evidence, and what it brought."""
    from afterglow.referring.wording import findings, summary
    from db import coupons, notices, referring
    from workers.commands.console import moment, say, say_json, say_next, say_table
    from workers.commands.opening import opened

    with opened() as desk, desk.database.reading() as connection:
        found = referring.by_id(connection, [referral]).get(referral)
        if found is None:
            raise referring.UnknownReferralError(
                f"There is no referral {referral}; `afterglow referrals list` shows those there are."
            )
        why = referring.decisions(connection, [referral]).get(referral, [])
        rewards = referring.rewards_of(connection, [referral]).get(referral, [])
        held = coupons.of_rewards(connection, [one.id for one in rewards])
        told = notices.of_referral(connection, referral)
    if as_json:
        given = [{**_reward(one), "code": _code(held.get(one.id))} for one in rewards]
        said: dict[str, Any] = {"decisions": [_plain(one) for one in why], "rewards": given}
        said["notices"] = [dict(one._mapping) for one in told]
        say_json({**_told(found), **said})
        return
    say(
        f"Referral {found.id} of {found.programme}: customer {found.referrer_id} brought {found.referee_id}; "
        f"{found.state.value}{f'; variant {found.variant}' if found.variant else ''}.",
        style="bold",
    )
    for one in why:
        by = f" {one.author}: {one.reason}" if one.author else ""
        say(f"{moment(one.at)}  {one.state.value}: {summary(one.because, one.evidence)}{by}")
        for line in findings(one.evidence):
            say(line, indent=4)
    if rewards:
        columns = ("reward", "for", "customer", "what", "code", "granted", "state")
        rows = [
            (
                str(one.id),
                _for(one),
                str(one.customer_id),
                _what(one),
                _said(held.get(one.id)),
                one.granted,
                one.state,
            )
            for one in rewards
        ]
        say()
        say_table(columns, rows, numbers=("granted",))
    for notice in told:
        when = f" at {moment(notice.told_at)}" if notice.told_at else ""
        trouble = f": the shop {notice.reason}" if notice.reason else ""
        say(f"reward {notice.reward_id}, {notice.kind.replace('_', ' ')}: {notice.state}{when}{trouble}", indent=2)
    say_next((f"afterglow why {found.referee_id}", "the referee's whole story"))


def _code(held: "Held | None") -> str | None:
    return held.code if held is not None else None


def _said(held: "Held | None") -> str:
    """A reward's code; where it does not stand, how it stands with it."""
    if held is None:
        return ""
    return held.code or "" if held.state == "standing" else f"{held.code or ''} {held.state.value}".strip()


@family.command()
def variants(
    programme: Annotated[str, typer.Argument(help="The programme, such as friends.")],
    form: Annotated[Format, typer.Option("--format", help="table, csv or json.")] = Format.TABLE,
) -> None:
    """Say what each variant of the rewards brought and cost, and whether there is enough to tell them apart."""
    from dataclasses import asdict

    from afterglow.spreadsheet import as_csv
    from db import variants
    from workers.commands.console import say, say_json, say_lines, say_table
    from workers.commands.opening import opened

    with opened() as desk, desk.database.reading() as connection:
        catalog = desk.release(connection).catalog
        found = variants.of(connection, _programme(catalog.referrals, programme))
    rows = variants.as_rows(found, catalog.shop)
    if form is Format.JSON:
        said = [{**asdict(one), "revenue_each": one.revenue_each} for one in found]
        say_json({"programme": programme, "currency": catalog.shop.model.currency, "variants": said})
        return
    if form is Format.CSV:
        say_lines([as_csv(variants.COLUMNS, rows).rstrip("\r\n")])
        return
    if not rows:
        say(f"The rewards of {programme} have no variants, and nobody was referred.")
        return
    costs = ("points", "credit", "coupons", "webhooks")
    cut = [variants.COLUMNS.index(name) for name in costs]
    for title, columns in (
        (f"{programme}: what each brought", [n for n in range(len(variants.COLUMNS) - 1) if n not in cut]),
        (f"what it cost, in {catalog.shop.model.currency} where it is money", [0, *cut]),
    ):
        names = [variants.COLUMNS[n] for n in columns]
        say_table(names, [[row[n] for n in columns] for row in rows], title=title, numbers=names[1:])
    for one in found:
        if one.says is not None:
            say(f"{one.variant} beside {found[0].variant}: {one.says}.")


def _programme(known: "Mapping[str, ReferralProgramme]", name: str) -> "ReferralProgramme":
    from afterglow.errors import AfterglowError
    from afterglow.problems import did_you_mean

    if name not in known:
        listed = ", ".join(sorted(known)) or "none"
        raise AfterglowError(
            f"No referral programme in force is called '{name}'; they are {listed}.{did_you_mean(name, known)}"
        )
    return known[name]


def _for(reward: "Reward") -> str:
    return f"milestone {reward.milestone}" if reward.milestone else reward.side


def _what(reward: "Reward") -> str:
    return reward.coupon or reward.webhook or reward.asset


def _show(desk: "Desk", found: Sequence["Referral"], as_json: bool, none: str) -> None:
    from workers.commands.console import ROWS_MAX, say, say_json, say_next, say_table

    if as_json:
        say_json([_told(one) for one in found])
        return
    if not found:
        say(none)
        return
    rows = [
        (str(one.id), one.programme, str(one.referrer_id), str(one.referee_id), one.state.value, one.attributed_at)
        for one in found[:ROWS_MAX]
    ]
    say_table(("referral", "programme", "referrer", "referee", "state", "since (UTC)"), rows)
    if len(found) > ROWS_MAX:
        say(f"... and {len(found) - ROWS_MAX:,} more; --json lists them all.")
    say_next((f"afterglow referrals explain {found[0].id}", "why it stands there"))


def _say_decided(decided: "Referral", as_json: bool) -> None:
    from workers.commands.console import say, say_json, say_next

    if as_json:
        say_json(_told(decided))
        return
    after = {
        "qualified": f"is rewarded on {decided.due_at:%Y-%m-%d at %H:%M} UTC" if decided.due_at else "",
        "rewarded": "stays rewarded",
        "attributed": "counts once the referee does what qualifies",
        "rejected": "is rejected",
        "reversed": "is undone, and what it brought is being taken back",
    }[decided.state.value]
    say(f"Referral {decided.id} {after}.", style="bold")
    say_next((f"afterglow referrals explain {decided.id}", "every decision about it"))


def _told(referral: "Referral") -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(referral), "state": referral.state.value}


def _plain(decision: "Decision") -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(decision), "state": decision.state.value}


def _reward(reward: "Reward") -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(reward)
