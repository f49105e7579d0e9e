"""To see what customers would get before they get it: `graph`, `preview`, `send-test`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from afterglow.language.catalog import Catalog
    from afterglow.previews import Preview
    from db.occupancy import Occupancy
    from db.pictures import Stages
    from db.settings import Settings
    from workers.commands.opening import Desk

Template = Annotated[str, typer.Argument(help="A template, such as email/thank-you.")]
Customer = Annotated[
    str | None,
    typer.Option("--customer", help="An address, our number, an id at a source; or a YAML or JSON file."),
]
Folder = Annotated[Path | None, typer.Option("--folder", help="The shop's folder.", file_okay=False, exists=True)]
Width = Annotated[int, typer.Option(min=320, max=4000, help="Pixels at most; 358 fits a phone.")]


def add_to(main: typer.Typer) -> None:
    """Declare the commands."""
    main.command()(graph)
    main.command()(preview)
    main.command(name="send-test")(send_test)


def graph(
    flow: Annotated[str | None, typer.Argument(help="A flow; the journey with all of them if left out.")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; standard output if left out.")] = None,
    width: Width = 1200,
    folder: Folder = None,
) -> None:
    """Draw a flow, or the journey, as SVG.

    It is drawn from the files in the folder, in force or not. Where there is a database, with the people at each step.
    """
    from afterglow.pictures import flow_picture, journey_picture
    from db.pictures import on_journey, on_steps
    from workers.commands.console import say, say_next
    from workers.previewing import catalog_of

    catalog = catalog_of(_files(folder))
    drawn = None if flow is None else catalog.flows[_known(catalog, flow)]
    counted = _counted()
    if drawn is not None:
        people = None if counted is None else on_steps(counted[0], drawn)
        svg = flow_picture(drawn, people, width=width)
    else:
        figures = None if counted is None else on_journey(*counted, catalog.flows)
        svg = journey_picture(catalog, figures, width=width)
    if out is None:
        typer.echo(svg, nl=False)
        return
    out.write_text(svg, encoding="utf-8")
    who = "with the people at each place" if counted else "without people, as no database is at hand"
    say(f"{out}: {f'the flow {flow}' if flow else 'the journey'}, {who}.")
    say_next(("afterglow preview TEMPLATE", "a mail as somebody would read it"))


def preview(
    template: Template,
    customer: Customer = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the HTML and the text.", file_okay=False)] = None,
    show: Annotated[bool, typer.Option("--open", help="Open the HTML in the browser.")] = False,
    folder: Folder = None,
) -> None:
    """Show a mail as somebody would read it, in every language.

    What neither the customer nor the file says is an example, and is named. Nothing is sent or recorded, and links
    open nothing.
    """
    import tempfile

    from db.settings import load_settings
    from workers.commands.console import say, say_lines, say_next

    _, previews = _written(template, customer, folder, load_settings())
    for found in previews:
        say(f"{template}, {found.locale}" if found.locale else template, style="bold")
        say(_whose(found, customer), style="dim")
        say_lines(_text(found).splitlines())
        say()
    if show and out is None:
        out = Path(tempfile.mkdtemp(prefix="afterglow-preview-"))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        pages = [_put(out, template, found) for found in previews]
        say(f"In {out}: {', '.join(page.name for page in pages)}, and the text of each beside it.")
        for page in pages if show else ():
            typer.launch(page.resolve().as_uri())
    say_next((f"afterglow send-test {template} --to ADDRESS", "into an inbox of a team"))


def send_test(
    template: Template,
    to: Annotated[str, typer.Option(help="An address of a team in shop.yaml.")],
    customer: Customer = None,
    folder: Folder = None,
) -> None:
    """Send a mail to a team of the shop, marked as a test.

    It is recorded nowhere, and its links open nothing. While the installation is not live, only addresses in
    AFTERGLOW_ALLOW get one.
    """
    from db.settings import load_settings
    from workers.commands.console import complain, count, instant, say
    from workers.previewing import catalog_of, send_as_test, team_address

    settings = load_settings()
    address = team_address(catalog_of(_files(folder)).shop, settings, to)
    catalog, previews = _written(template, customer, folder, settings)
    refused = send_as_test(catalog.shop, settings, address, previews, instant())
    for reason in refused:
        complain(f"A test did not go to {address}: {reason}")
    if refused:
        raise typer.Exit(1)
    say(f"{count(len(previews), 'mail')} sent to {address}, marked as a test. {_whose(previews[0], customer)}")


def _written(
    template: str, customer: str | None, folder: Path | None, settings: "Settings"
) -> tuple["Catalog", list["Preview"]]:
    """A mail of the folder in every language, and the files it belongs to."""
    from workers.commands.console import instant
    from workers.previewing import catalog_of, mails_of, previews_of, wanted_of

    files = _files(folder)
    catalog = catalog_of(files)
    template = template if "/" in template else f"email/{template}"
    mails = mails_of(catalog, files, template)
    facts = {} if customer is None else _facts(customer, catalog, template, wanted_of(mails))
    return catalog, previews_of(catalog, mails, template, facts, settings, instant())


def _facts(customer: str, catalog: "Catalog", template: str, wanted: frozenset[str]) -> dict[str, Any]:
    """What is known of a customer in the database, or what stands in a file."""
    from afterglow.previews import awaited, read_facts, starting
    from db.previews import facts_of
    from workers.commands.opening import opened
    from workers.files import read_text

    if customer.endswith((".yaml", ".yml", ".json")):
        return read_facts(read_text(Path(customer), customer), customer)
    with opened() as desk, desk.database.reading() as connection:
        found = desk.customer(connection, customer)
        told = awaited(catalog, template), starting(catalog, template)
        return facts_of(connection, catalog.shop, found, wanted, *told)


def _whose(found: "Preview", customer: str | None) -> str:
    """Where the facts of a preview are from, in a sentence."""
    if customer is None:
        return "All facts are an example's."
    if found.examples:
        return f"Facts of {customer}; an example's: {', '.join(found.examples)}."
    return f"Facts of {customer}."


def _text(found: "Preview") -> str:
    rendered = found.rendered
    return f"Subject:   {rendered.subject}\nPreheader: {rendered.preheader}\n\n{rendered.text}"


def _put(out: Path, template: str, found: "Preview") -> Path:
    name = template.rpartition("/")[2] + (f".{found.locale}" if found.locale else "")
    (out / f"{name}.txt").write_text(_text(found), encoding="utf-8")
    page = out / f"{name}.html"
    page.write_text(found.rendered.html, encoding="utf-8")
    return page


def _files(folder: Path | None) -> dict[str, str]:
    from db.settings import load_settings
    from workers.files import find_shop_folder, read_shop_folder

    return read_shop_folder(folder or find_shop_folder(load_settings().shop_dir))


def _known(catalog: "Catalog", flow: str) -> str:
    from afterglow.problems import did_you_mean
    from workers.commands.opening import UnknownError

    if flow not in catalog.flows:
        raise UnknownError(f"No flow is called '{flow}' in this folder.{did_you_mean(flow, catalog.flows)}")
    return flow


def _counted() -> tuple["Occupancy", "Stages"] | None:
    """The people at each place; None where there is no database yet, or it does not answer, which is told."""
    from db.occupancy import occupancy
    from db.pictures import stages
    from workers.commands.opening import counted

    def ask(desk: "Desk") -> "tuple[Occupancy, Stages]":
        with desk.database.reading() as connection:
            return occupancy(connection), stages(connection)

    return counted(ask)
