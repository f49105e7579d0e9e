"""Compile one mail: layout, footer and body become one HTML text and one plain text, expressions left in.

MJML runs here, once for each template when it is loaded, and never while mail is sent. What comes out is
JSON-able, so that it can be stored by its digest and loaded by another process.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import mjml
from inscriptis import get_text
from inscriptis.model.config import ParserConfig

from afterglow.expressions import ExpressionError, parse_text
from afterglow.mail.locales import parted
from afterglow.mail.markup import check_markup, component_around
from afterglow.mail.placeholders import MARKED, Hidden, Hider, Placeholder, place_of, restore, surviving
from afterglow.mail.sources import MailSources, Source, find_sources
from afterglow.problems import Problem, Problems

CompiledMail = dict[str, Any]

#: Filled in when a template is compiled; everything else in braces is filled in for each customer.
MARKERS = ("body", "footer", "subject", "preheader")
_STATEMENT_LINE = re.compile(r"^[ \t]*((?:\{%.*?%\}[ \t]*)+)\n", re.MULTILINE)
_COMMENT = re.compile(r"[ \t]*\{#.*?#\}[ \t]*\n?", re.DOTALL)
#: Notes to other authors; `<!--[if mso]>` and its end are instructions to Outlook and stay.
_NOTE = re.compile(r"<!--(?!\[if|<!|>).*?-->", re.DOTALL)
_ATTRIBUTES = re.compile(r"<mj-attributes>.*?</mj-attributes>", re.DOTALL)
#: What language the layout says a mail is in; one that has a language of its own says that.
_LANG = re.compile(r"(<mjml\b[^>]*?\blang=)(\"[^\"]*\"|'[^']*')")
#: Links are written out behind their words, since nothing can be clicked in plain text.
_DERIVED = ParserConfig(display_links=True)


def compile_mail(name: str, files: Mapping[str, str]) -> CompiledMail:
    """Compile the mail `name`, such as `email/thank-you`.

    Parameters:
      files: the contents of templates by path; `_layout.*` and `_footer-KIND.*` are read beside the template.

    Returns:
      kind, topic, and the templates subject, preheader, html and text; the files it was made of in `sources`,
      and in `places` where things stand, for later problems.

    Raises:
      Problems: everything that is wrong with the template, each with its place.
    """
    return dict(_compiled(name, find_sources(name, files)))


@lru_cache(maxsize=256)  # whoever checks files compiles them next, and an edit leaves most mails as they were
def _compiled(name: str, sources: MailSources) -> CompiledMail:
    _refuse(_checked(sources))
    hider = Hider()
    html = _html(sources, hider, parted(name)[1])
    text = _text(sources, hider)
    compiled: CompiledMail = {
        "name": name,
        "kind": sources.front.kind,
        "topic": sources.front.topic,
        "subject": _one_line(sources.front.subject),
        "preheader": _one_line(sources.front.preheader),
        "html": html,
        "text": text,
        "sources": sources.files(),
        "file": sources.body.file,
        "places": {key: list(place) for key, place in {**_places(sources.body), **sources.places}.items()},
    }
    for part in ("html", "text"):
        try:
            parse_text(compiled[part])
        except ExpressionError as error:
            message = f"The {part} part cannot be read once it is joined with the layout: {error.message}"
            raise Problems([sources.body.problem(message)]) from error
    return compiled


def _refuse(problems: Iterable[Problem]) -> None:
    found = list(problems)
    if found:
        raise Problems(found)


def _checked(sources: MailSources) -> list[Problem]:
    """What is wrong with the expressions and the markup of each file by itself."""
    problems = []
    for part in sources.parts():
        problems += _unreadable(part, part.text, (part.first_line, 1))
    for key in ("subject", "preheader"):
        problems += _unreadable(sources.body, getattr(sources.front, key), sources.places[key])
    for layout in (sources.layout, sources.text_layout):
        found = len(_markers(layout.text, "body"))
        if found != 1:
            message = f"A layout holds {{{{ body }}}} exactly once; here it stands {found} times."
            problems.append(layout.problem(message))
    for layout, footer, ending in (
        (sources.layout, sources.footer, "mjml"),
        (sources.text_layout, sources.text_footer, "txt"),
    ):
        wanted = _markers(layout.text, "footer")
        if wanted and footer is None:
            line, col = place_of(layout.text, wanted[0])
            name = f"_footer-{sources.front.kind}.{ending}"
            message = f"There is no {name} beside this layout to stand at {{{{ footer }}}}."
            problems.append(layout.problem(message, line, col))
    problems += _markup_problems(sources)
    return problems


def _unreadable(part: Source, text: str, place: tuple[int, int]) -> list[Problem]:
    try:
        parse_text(text)
    except ExpressionError as error:
        col = error.col if error.line > 1 else place[1] + error.col - 1
        return [Problem(part.file, place[0] + error.line - 1, col, error.message)]
    return []


def _markup_problems(sources: MailSources) -> list[Problem]:
    """Wrong tags; body and footer are read as standing where the layout puts them."""
    layout = sources.layout
    problems = check_markup(_without_markers(layout.text), layout.file, inside=None)
    for part, marker in ((sources.body, "body"), (sources.footer, "footer")):
        offsets = _markers(layout.text, marker)
        if part and offsets:
            around = component_around(layout.text, offsets[0])
            problems += check_markup(part.text, part.file, inside=around, first_line=part.first_line)
    return problems


def _html(sources: MailSources, hider: Hider, locale: str | None) -> str:
    """Run MJML over the whole mail and see that no expression got lost in it."""
    front, file = sources.front, sources.body.file
    layout = hider.hide(sources.layout.text, sources.layout.file)
    pieces = {
        "body": hider.hide(sources.body.text, file, (sources.body.first_line, 1)),
        "subject": hider.hide(_one_line(front.subject), file, sources.places["subject"], literal=True),
        "preheader": hider.hide(_one_line(front.preheader), file, sources.places["preheader"], literal=True),
    }
    if sources.footer:
        pieces["footer"] = hider.hide(sources.footer.text.strip(), sources.footer.file)
    document, placeholders = _filled(layout, pieces)
    if locale is not None:
        document = _LANG.sub(rf'\g<1>"{locale}"', document, count=1)
    html = _run_mjml(_NOTE.sub("", document), sources.body)
    # Defaults for a component that this mail does not use may well vanish, and notes do.
    kept = surviving(html) | surviving("".join(_NOTE.findall(document) + _ATTRIBUTES.findall(document)))
    _refuse(
        Problem(hidden.file, hidden.line, hidden.col, _lost(hidden))
        for hidden in placeholders
        if hidden.word not in kept
    )
    return restore(html, placeholders)


def _text(sources: MailSources, hider: Hider) -> str:
    """The plain text: written by hand, or else read off the HTML of the body alone."""
    body = sources.text.text if sources.text else _derived(sources.body, hider)
    parts = {"body": body, "footer": sources.text_footer.text if sources.text_footer else ""}
    parts |= {"subject": sources.front.subject, "preheader": sources.front.preheader}

    def fill(match: re.Match[str]) -> str:
        name = _marker(match)
        return parts[name].strip("\n") if name in MARKERS else match.group()

    whole = MARKED.sub(fill, _COMMENT.sub("", sources.text_layout.text))
    # A line that holds only statements is no line of the mail.
    return _STATEMENT_LINE.sub(r"\1", _COMMENT.sub("", whole)).strip() + "\n"


def _derived(body: Source, hider: Hider) -> str:
    hidden = hider.hide(body.text, body.file, (body.first_line, 1))
    html = _run_mjml(f"<mjml><mj-body><mj-wrapper>{hidden.text}</mj-wrapper></mj-body></mjml>", body)
    lines = (line.strip() for line in get_text(html, _DERIVED).splitlines())
    return restore(re.sub(r"\n{3,}", "\n\n", "\n".join(lines)), hidden.placeholders)


def _run_mjml(document: str, part: Source) -> str:
    try:
        # MJML would fetch well-known fonts from a stranger's server, who would learn of every opening of every mail.
        return str(mjml.mjml2html(document, fonts={}))
    except ValueError as error:
        message = f"MJML cannot read this template ({error}); look for broken tags."
        raise Problems([part.problem(message)]) from error
    except BaseException as error:
        # A panic of the Rust code, which derives from BaseException and can be imported from nowhere: for instance
        # one of `&` before a line separator (U+2028).
        if type(error).__name__ != "PanicException":
            raise
        message = "MJML breaks on this template; look for '&' and '<' that stand alone, and write &amp; and &lt;."
        raise Problems([part.problem(message)]) from error


def _filled(layout: Hidden, pieces: Mapping[str, Hidden]) -> tuple[str, list[Placeholder]]:
    """The layout with the pieces at their markers, and every expression that is still hidden in it."""
    document = layout.text
    placeholders: list[Placeholder] = []
    for hidden in layout.placeholders:
        if hidden.source.startswith("{{") and hidden.name in MARKERS:
            piece = pieces.get(hidden.name)
            document = document.replace(hidden.word, piece.text if piece else "")
            placeholders += piece.placeholders if piece else ()
        else:
            placeholders.append(hidden)
    return document, placeholders


def _lost(hidden: Placeholder) -> str:
    source = " ".join(hidden.source.split())
    if hidden.source.startswith("{%"):
        return f"MJML loses '{source}' here; wrap it in <mj-raw>, or move it into a text."
    return f"MJML loses '{source}' here; move it into a text, or into an attribute that MJML knows."


def _markers(text: str, name: str) -> list[int]:
    return [match.start() for match in MARKED.finditer(text) if _marker(match) == name]


def _marker(match: re.Match[str]) -> str:
    """What stands in `{{ }}`; empty for statements and comments."""
    return match.group()[2:-2].strip() if match.group().startswith("{{") else ""


def _without_markers(text: str) -> str:
    def blank(match: re.Match[str]) -> str:
        return " " * len(match.group()) if _marker(match) in MARKERS else match.group()

    return MARKED.sub(blank, text)


def _places(body: Source) -> dict[str, tuple[int, int]]:
    """Where each name and function of the body is read first, for what later checks say about them."""
    text = parse_text(body.text)
    wanted = text.names | {function for function, _ in text.calls}
    places: dict[str, tuple[int, int]] = {}
    for match in MARKED.finditer(body.text):
        for name in wanted - places.keys():
            found = re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", match.group())
            if found:
                offset = match.start() + found.start()
                places[name] = place_of(body.text, offset, (body.first_line, 1))
    return places


def _one_line(text: str) -> str:
    return " ".join(text.split())
