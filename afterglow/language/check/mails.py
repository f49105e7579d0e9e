"""Hold every mail against the flows that send it: what it reads, what it links to, what its kind must carry."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from afterglow.expressions import FUNCTIONS, ExpressionError
from afterglow.expressions.parse import Reader
from afterglow.expressions.tree import Block
from afterglow.language.check.flows import Surroundings, names_at
from afterglow.language.check.reach import Arrived, arrivals
from afterglow.language.check.reading import read_blocks
from afterglow.language.check.reviews import gated_in_template
from afterglow.language.check.supply import CUSTOMER, SURVEY, Names, Shape, World
from afterglow.language.flow.graph import Flow, Notify, Send, WaitFor, reachable
from afterglow.language.shop import Shop
from afterglow.mail.compiling import MARKERS
from afterglow.mail.locales import parted
from afterglow.mail.placeholders import MARKED, place_of
from afterglow.mail.sources import Kind, find_sources
from afterglow.mail_templates import Mail, lint_mail
from afterglow.problems import Problem, did_you_mean
from afterglow.surveys import SCALES, STARS

#: Names that come from the touchpoint itself, by the kind of mail; see letters.py.
OWN_NAMES: Mapping[Kind, tuple[str, ...]] = {
    "marketing": ("why_line", "unsubscribe_url", "unsubscribe_text", "preferences_url", "preferences_text", "me_url"),
    "service": ("why_line", "me_url"),
    "team": ("why_line", "customer_url", "tasks_url", "about", "team", "task", "due"),
}
NOTICE = "email/_notify"


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A text of a mail that stands in one piece in a file, from `line` and `col` on."""

    file: str
    line: int
    col: int
    text: str
    blocks: tuple[Block, ...]
    #: The first names that it reads.
    roots: frozenset[str]

    def problem(self, line: int, col: int, message: str) -> Problem:
        """A problem at a line and column of the text."""
        return Problem(self.file, self.line + line - 1, col if line > 1 else self.col + col - 1, message)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sending:
    """A step that sends a mail."""

    flow: Flow
    step: Send | Notify
    #: What has come by then.
    arrived: Arrived


def check_mails(
    mails: Mapping[str, Mail],
    flows: Mapping[str, Flow],
    files: Mapping[str, str],
    around: Surroundings,
    *,
    all_flows: bool,
) -> Iterator[Problem]:
    """Everything in the mails that does not fit the flows that send them, or the shop.

    Where not `all_flows` can be read, a mail that none of them sends may well be sent, and have a topic.
    """
    at: dict[tuple[str, int, int], Problem] = {}
    sendings = _sendings(flows)
    for name, mail in sorted(mails.items()):
        plain, locale = parted(name)
        if locale is not None:
            yield from _form(mail, plain, mails, around)
        sending = sendings.get(plain, [])
        topic = mail.topic or (mails[plain].topic if plain in mails else None)
        yield from _rules(replace(mail, topic=topic), sending, around.shop, all_flows)
        for problem in _contents(mail, sending, files, around):
            at.setdefault((problem.file, problem.line, problem.col), problem)
    yield from at.values()


def _form(mail: Mail, plain: str, mails: Mapping[str, Mail], around: Surroundings) -> Iterator[Problem]:
    """What does not fit between a mail in another language and the one in the shop's own."""
    if plain not in around.mails:
        message = f"There is no {plain}.mjml beside this: whoever speaks another language would get nothing."
        yield mail.problem("kind", message)
        return
    if (own := mails.get(plain)) is None:
        return
    for what in ("kind", "topic"):
        here, there = getattr(mail, what), getattr(own, what)
        if here is not None and here != there:
            message = f"The {what} of a mail is the same in every language: '{there or 'none'}' in {plain}.mjml."
            yield mail.problem(what, message)


def _sendings(flows: Mapping[str, Flow]) -> Mapping[str, list[Sending]]:
    """The reachable steps that send each mail."""
    found: dict[str, list[Sending]] = {}
    for flow in flows.values():
        reached = arrivals(flow)
        for step in flow.steps.values():
            if step.id in reached and isinstance(step, Send | Notify):
                template = step.template if isinstance(step, Send) else NOTICE
                sending = Sending(flow=flow, step=step, arrived=reached[step.id])
                found.setdefault(template, []).append(sending)
    return found


def _rules(mail: Mail, sendings: list[Sending], shop: Shop | None, all_flows: bool) -> Iterator[Problem]:
    topics = {sending.flow.topic for sending in sendings} or {None if all_flows else "the topic of a flow"}
    for topic in topics:
        yield from lint_mail(mail, topic=topic)
    if mail.topic is not None and shop is not None and mail.topic not in shop.model.topics:
        meant = did_you_mean(mail.topic, shop.model.topics)
        yield mail.problem("topic", f"There is no topic '{mail.topic}' in shop.yaml.{meant}")


def _contents(mail: Mail, sendings: list[Sending], files: Mapping[str, str], around: Surroundings) -> Iterator[Problem]:
    parts = _parts(mail, files)
    named = [(sending, _names(mail, sending, around)) for sending in sendings]
    for part in parts:
        if not sendings:
            for complaint in read_blocks(part.text, part.blocks, _names_unsent(mail, around.world)):
                yield part.problem(complaint.line, complaint.col, complaint.message)
        looked_at: list[Names] = []
        for sending, names in named:
            if (read := names.of(part.roots)) in looked_at:
                continue  # the same names are wrong in the same places
            looked_at.append(read)
            for complaint in read_blocks(part.text, part.blocks, names):
                message = f"{complaint.message} Flow '{sending.flow.name}' sends this mail."
                yield part.problem(complaint.line, complaint.col, message)
        for line, col, message in gated_in_template(part.text, part.blocks):
            yield part.problem(line, col, message)
    yield from _calls(mail, sendings, parts)
    yield from _asking(mail, sendings)


def _parts(mail: Mail, files: Mapping[str, str]) -> list[Part]:
    """The texts a mail is made of, each where it stands; the markers of the layout are no names."""
    sources = find_sources(mail.name, files)
    pieces = [(part.file, part.first_line, 1, part.text) for part in sources.parts()]
    for key in ("subject", "preheader"):
        line, col = sources.places[key]
        quoted = files[sources.body.file].split("\n")[line - 1][col - 1 :].startswith(('"', "'"))
        pieces.append((sources.body.file, line, col + 1 if quoted else col, getattr(sources.front, key)))
    parts = []
    for file, line, col, text in pieces:
        if text is sources.layout.text or text is sources.text_layout.text:
            text = _without_markers(text)
        reader = Reader(text, FUNCTIONS)
        try:
            blocks = reader.template()
        except ExpressionError:
            continue  # compiling the mail has said so, with its place
        roots = frozenset(name.partition(".")[0] for name in reader.names)
        parts.append(Part(file=file, line=line, col=col, text=text, blocks=blocks, roots=roots))
    return parts


def _without_markers(text: str) -> str:
    def blank(match: re.Match[str]) -> str:
        is_marker = match.group().startswith("{{") and match.group()[2:-2].strip() in MARKERS
        return " " * len(match.group()) if is_marker else match.group()

    return MARKED.sub(blank, text)


def _names(mail: Mail, sending: Sending, around: Surroundings) -> Names:
    return _for_mail(mail, around, names_at(sending.flow, around.world, sending.arrived))


def _names_unsent(mail: Mail, world: World) -> Names:
    """What can be said of a mail that no flow sends yet: only what every mail can read is looked at."""
    known = {"customer": world.customer, "shop": world.shop}
    known |= {"account": world.account} if world.account is not None else {}
    names = Names(given=known, supplier="", closed=False)
    return _with_own(mail, world, None, names)


def _for_mail(mail: Mail, around: Surroundings, names: Names) -> Names:
    return _with_own(mail, around.world, around.shop, names)


def _with_own(mail: Mail, world: World, shop: Shop | None, names: Names) -> Names:
    """The names with those of the touchpoint itself, and with what not every customer and shop has."""
    own = OWN_NAMES[mail.kind]
    given: dict[str, Shape | None] = {**names.given, **dict.fromkeys(own, "text")}
    others = {name for names_of_kind in OWN_NAMES.values() for name in names_of_kind} - given.keys()
    absent = {
        **names.absent,
        **dict.fromkeys(others, f"mails of kind {mail.kind} have none."),
    }
    sometimes = dict(names.sometimes)
    for name in ("first_name", "last_name", *(world.customer or {}).keys() - CUSTOMER.keys()):
        sometimes[f"customer.{name}"] = "where it is not known of a customer"
    for name, value in (shop.facts if shop else {}).items():
        if value is None:
            sometimes[f"shop.{name}"] = "from shop.yaml"
    return Names(
        given=given,
        supplier=names.supplier,
        suppliers=names.suppliers,
        sometimes=sometimes,
        absent=absent,
        closed=names.closed,
    )


def _asking(mail: Mail, sendings: list[Sending]) -> Iterator[Problem]:
    """A survey whose mail does not ask."""
    if any(function == "rate" for function, _ in mail.calls):
        return
    for sending in sendings:
        if isinstance(sending.step, Send) and sending.step.asks:
            message = f'{mail.name} has no scale to answer on: link each score, as rate("answer", 4) does.'
            yield sending.flow.problem((*sending.step.path, "survey"), message)


def _calls(mail: Mail, sendings: list[Sending], parts: list[Part]) -> Iterator[Problem]:
    """The functions a mail calls: right arguments, and for a rating somebody who waits for the answer."""
    for function, arguments in sorted(mail.calls, key=str):
        message = _wrong_call(function, arguments, sendings)
        if message is None:
            continue
        for part in parts:
            for line, col in _places_of_call(part.text, function, arguments):
                yield part.problem(line, col, message)


def _wrong_call(function: str, arguments: tuple[object, ...], sendings: list[Sending]) -> str | None:
    match function, arguments:
        case "referral_link" | "referral_variant", (str(),):
            return None
        case "best_review" | "average_rating" | "review_count", () | (str(),):
            return None
        case "best_review" | "average_rating" | "review_count", _:
            return (
                f"'{function}' takes a product as reviews name it, {function}(\"house-roast\"), or nothing: "
                f"{function}() tells of the shop."
            )
        case "referral_link" | "referral_variant", _:
            return f"'{function}' takes the name of a programme: {function}(\"friends\")."
        case _, (str() as survey, *more) if _is_answer(more):
            return _unheard(survey, sendings)
        case _:
            return (
                "'rate' takes a step that waits for the answer, perhaps a score from 1 to 5, and perhaps a scale: "
                f'rate("answer", 4), or rate("answer", 9, "nps"). Scales are {", ".join(SCALES)}.'
            )


def _is_answer(more: list[object]) -> bool:
    """Whether the further arguments of `rate` are a score, a scale or both, and the score is on the scale."""
    scales = [one for one in more if isinstance(one, str)]
    scores = [one for one in more if isinstance(one, int) and not isinstance(one, bool)]
    scale = SCALES.get(scales[0]) if scales else STARS
    is_known = scale is not None and all(score in scale.scores for score in scores)
    return is_known and len(scales) <= 1 and len(scores) <= 1 and more == [*scores, *scales]


def _unheard(survey: str, sendings: list[Sending]) -> str | None:
    """Why nobody would hear the answer to a survey, in the first flow where that is so."""
    for sending in sendings:
        flow = sending.flow
        if isinstance(sending.step, Send) and sending.step.asks:
            continue  # the answer is an event that anybody may hear
        waits = [step.id for step in flow.steps.values() if isinstance(step, WaitFor) and SURVEY in step.events]
        if survey not in waits:
            meant = did_you_mean(survey, waits)
            return f"Flow '{flow.name}', which sends this mail, has no step '{survey}' that waits for {SURVEY}.{meant}"
        if survey not in reachable(flow, sending.step.id):
            return f"In flow '{flow.name}' step '{survey}' does not come after this mail: nobody would hear the answer."
    return None


def _places_of_call(text: str, function: str, arguments: tuple[object, ...]) -> Iterator[tuple[int, int]]:
    """Where a call with these arguments is written first, as line and column."""
    written = r"\s*,\s*".join(
        rf"""["']{re.escape(argument)}["']""" if isinstance(argument, str) else re.escape(str(argument))
        for argument in arguments
    )
    for marked in MARKED.finditer(text):
        if hit := re.search(rf"(?<![\w.]){function}\s*\(\s*{written}\s*\)", marked.group()):
            yield place_of(text, marked.start() + hit.start())
            return
