"""Hold one referral programme against the rest of the shop's files."""

from collections.abc import Collection, Iterator

from afterglow.expressions import FUNCTIONS
from afterglow.expressions.parse import Reader
from afterglow.language.check.programmes import names_of
from afterglow.language.check.reading import read_blocks, read_expression
from afterglow.language.check.supply import CUSTOMER, Names, Shape, World
from afterglow.language.compiling import Path
from afterglow.language.referral import ReferralProgramme
from afterglow.language.shop import Shop
from afterglow.problems import Problem, did_you_mean
from afterglow.referring import sharing
from afterglow.referring.linking import is_own


def check_referral(
    programme: ReferralProgramme, world: World, shop: Shop | None, loyalty: Collection[str] | None
) -> Iterator[Problem]:
    """Everything in a referral programme's file that does not fit the other files.

    Args:
      loyalty: the names of the loyalty programmes; None where one of them cannot be read.
    """
    yield from _event(programme, ("qualifies", "on"), programme.on, world)
    for event in sorted(programme.undone_by):
        yield from _event(programme, ("qualifies", "undone_by"), event, world)
    if programme.when is not None and (not world.whole or programme.on in world.events):
        path: Path = ("qualifies", "when")
        for one in read_expression(programme.when, names_of(world, programme.on))[1]:
            line, col = programme.document.place_inside(path, one.line, one.col)
            yield Problem(programme.document.file, line, col, one.message)
    if programme.page is not None and shop is not None and not is_own(programme.page, shop.model.url):
        message = f"A referral link leads to the shop's own site, {shop.model.url}, and this page is elsewhere."
        yield programme.problem(("page",), message)
    yield from _share(programme, world)
    if shop is not None and shop.model.reward_webhook is None:
        for path, gives in programme.gives.items():
            if gives.webhook is not None:
                message = "The shop is told of this reward, and shop.yaml does not say where: add `reward_webhook`."
                yield programme.problem((*path, "webhook"), message)
    if loyalty is not None:
        for path, gives in programme.gives.items():
            if gives.programme is not None and gives.programme not in loyalty:
                meant = did_you_mean(gives.programme, loyalty)
                message = f"There is no loyalty programme '{gives.programme}'.{meant}"
                yield programme.problem((*path, "programme"), message)


def _share(programme: ReferralProgramme, world: World) -> Iterator[Problem]:
    """The texts that customers pass on: names that nobody supplies, and a text without the link."""
    given: dict[str, Shape | None] = {"customer": dict.fromkeys(sharing.CUSTOMER, "text"), "shop": world.shop}
    names = Names(
        given={**given, "programme": dict.fromkeys(sharing.PROGRAMME, "text"), "link": "text", "code": "text"},
        supplier="A text to share",
        sometimes={f"customer.{name}": "where it is not known of a customer" for name in ("first_name", "last_name")},
        absent={
            f"customer.{name}": "what is shared leaves the house." for name in CUSTOMER if name not in sharing.CUSTOMER
        },
    )
    for name, text in programme.share.parts():
        path: Path = ("share", name)
        for function, _ in sorted(text.calls, key=str):
            yield programme.problem(path, f"'{function}' stands in mails only; here the link is {{{{ link }}}}.")
        if name != "subject" and not text.names & {"link", "code"}:
            yield programme.problem(path, f"Whoever gets this {name} finds no link; write {{{{ link }}}} into it.")
        for one in read_blocks(text.text, Reader(text.text, FUNCTIONS).template(), names):
            line, col = programme.document.place_inside(path, one.line, one.col)
            yield Problem(programme.document.file, line, col, one.message)


def _event(programme: ReferralProgramme, path: Path, event: str, world: World) -> Iterator[Problem]:
    if world.whole and event not in world.events:
        meant = did_you_mean(event, world.events)
        hint = meant or " Events that come by the API alone are declared in shop.yaml under events."
        yield programme.problem(path, f"No source brings an event '{event}'.{hint}")
