"""`me`: the link to a customer's own page, and closing it."""

import typer

from workers.commands.customers import AsJson, Customer

family = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Customers' own pages: link, revoke.")


def add_to(main: typer.Typer) -> None:
    """Declare the commands."""
    main.add_typer(family, name="me")


@family.command()
def link(customer: Customer, as_json: AsJson = False) -> None:
    """Print the link to a customer's own page. Whoever has it sees the page: give it to nobody else."""
    from afterglow.letters import me_url
    from db import me, people
    from workers.commands.console import say, say_json
    from workers.commands.opening import opened

    with opened() as desk, desk.database.reading() as connection:
        found = desk.customer(connection, customer)
        kept = people.kept(connection, [found])[found]
        generation = me.generations(connection, [kept]).get(kept, 0)
        is_open = me.opened(connection, kept, generation) is not None
    if not is_open:
        from afterglow.errors import AfterglowError

        raise AfterglowError(f"Customer {kept} was forgotten, and has no page any more.")
    url = me_url(desk.settings.public_url, desk.settings.secrets[0], kept, generation)
    if as_json:
        say_json({"customer": kept, "link": url})
        return
    say(url)


@family.command()
def revoke(customer: Customer, as_json: AsJson = False) -> None:
    """Close every link to a customer's own page, also those in mails that were sent; `me link` prints the new one."""
    from db import me
    from workers.commands.console import say, say_json, say_next
    from workers.commands.opening import opened

    with opened() as desk, desk.database.writing() as connection:
        found = desk.customer(connection, customer)
        generation = me.revoke(connection, found, desk.now(connection))
    if as_json:
        say_json({"customer": found, "generation": generation})
        return
    say(f"Every link to the page of customer {found} is closed.", style="bold")
    say_next((f"afterglow me link {found}", "the new one, which mails carry from now on"))
