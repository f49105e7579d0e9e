"""Review gating: asking for a public review only those who were happy. Refused, in flows and in mails.

Review sites remove shops for it, and it is unlawful where reviews must not be suppressed (in the United States by
16 CFR part 465, in the European Union by directive 2005/29/EC, annex I, 23c). Marketing by score is not: an
unhappy customer may well be spared an offer.
"""

from collections.abc import Iterable, Iterator, Mapping

from afterglow.expressions import Expression
from afterglow.expressions.tree import Block, Choice, Loop, Node, Output, Static, When
from afterglow.expressions.walk import parts_of
from afterglow.language.check.reading import dotted_names, place_of_word
from afterglow.language.flow.graph import Flow, If, Send, next_steps, reachable
from afterglow.mail_templates import Mail
from afterglow.problems import Problem

WHY = (
    "asking only happy customers for a review is review gating, which review sites and the law forbid. "
    "Ask everybody, or nobody."
)
#: What a measure of happiness is called.
_SCORES = frozenset({"score", "rating", "stars", "nps", "csat", "satisfaction"})


def is_review_link(name: str) -> bool:
    """Whether a name stands for the address at which reviews are written."""
    return name == "shop.review_url" or name.startswith("shop.links.review")


def reads_score(names: Iterable[str]) -> bool:
    """Whether somebody's happiness is among the names."""
    return any(name.rpartition(".")[2] in _SCORES for name in names)


def gated_in_flow(flow: Flow, mails: Mapping[str, Mail]) -> Iterator[Problem]:
    """Mails with a review link that only some customers get, chosen by their score."""
    asking = {
        step.id: step
        for step in flow.steps.values()
        if isinstance(step, Send) and step.template in mails and any(map(is_review_link, mails[step.template].names))
    }
    if not asking:
        return
    for path, expression in ((("starts", "when"), flow.when), (("only_if",), flow.only_if)):
        if _by_score(expression):
            yield flow.problem(path, f"This flow asks for a review, and this condition reads a score: {WHY}")
    for step in flow.steps.values():
        if not isinstance(step, If) or not any(_by_score(way.test) for way in step.ways):
            continue
        ways = [asking.keys() & reachable(flow, first) for first in next_steps(step)]
        if all(ways) or not any(ways):
            continue
        few = "Only one way" if len(ways) == 2 else "Not every way"
        for gated in frozenset().union(*ways):
            message = f"{few} from '{step.id}', which reads a score, asks for a review here: {WHY}"
            yield flow.problem((*asking[gated].path, "send"), message)


def _by_score(expression: Expression | None) -> bool:
    return expression is not None and reads_score(expression.names)


def gated_in_template(text: str, blocks: Iterable[Block]) -> Iterator[tuple[int, int, str]]:
    """Review links that a template shows by score, as line, column and sentence."""
    for block in _all(blocks):
        match block:
            case When(branches=branches, otherwise=otherwise):
                if not reads_score(name for test, _ in branches for name in dotted_names(test)):
                    continue
                shown = [_links(body) for body in (*(body for _, body in branches), otherwise)]
            case Output(node=node):
                choices = [inner for inner in _inside(node) if isinstance(inner, Choice)]
                choices = [choice for choice in choices if reads_score(dotted_names(choice.test))]
                shown = [
                    {name for name in dotted_names(way) if is_review_link(name)} if way else set()
                    for choice in choices
                    for way in (choice.then, choice.otherwise)
                ]
            case _:
                continue
        if any(shown) and not all(shown):
            link = min(name for names in shown for name in names)
            offset = place_of_word(text, link)
            line, col = text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)
            yield line, col, f"This link is shown by a score: {WHY}"


def _all(blocks: Iterable[Block]) -> Iterator[Block]:
    for block in blocks:
        yield block
        match block:
            case When(branches=branches, otherwise=otherwise):
                for _, body in branches:
                    yield from _all(body)
                yield from _all(otherwise)
            case Loop(body=body):
                yield from _all(body)
            case Static() | Output():
                pass


def _links(blocks: Iterable[Block]) -> set[str]:
    return {
        name
        for block in _all(blocks)
        if isinstance(block, Output)
        for name in dotted_names(block.node)
        if is_review_link(name)
    }


def _inside(node: Node) -> Iterator[Node]:
    yield node
    for part in parts_of(node):
        yield from _inside(part)
