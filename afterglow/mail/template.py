"""A compiled mail, and what becomes of it for one customer."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from afterglow.expressions import Text, parse_text
from afterglow.expressions.languages import language
from afterglow.mail.locales import parted
from afterglow.mail.placeholders import MARKED
from afterglow.mail.sources import Kind
from afterglow.problems import Problem

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, kw_only=True)
class Mail:
    """One mail, ready to be filled in for any number of customers."""

    #: Such as `email/thank-you`.
    name: str
    kind: Kind
    topic: str | None
    subject: Text = field(repr=False)
    preheader: Text = field(repr=False)
    html: Text = field(repr=False)
    text: Text = field(repr=False)
    #: Everything the four texts read, such as `order.total`.
    names: frozenset[str] = field(repr=False)
    #: Every call in them: the function and its constant arguments, such as `("referral_link", ("friends",))`.
    calls: frozenset[tuple[str, tuple[Any, ...]]] = field(repr=False)
    #: Bytes of HTML before anything is filled in.
    size: int
    #: Characters of the subject outside of expressions.
    subject_letters: int
    file: str
    places: Mapping[str, tuple[int, int]] = field(repr=False)

    @property
    def locale(self) -> str | None:
        """The locale that its name gives; None: the shop's own."""
        return parted(self.name)[1]

    def problem(self, about: str, message: str) -> Problem:
        """A problem at a key of the front matter, or where the body first reads a name."""
        line, col = self.places.get(about, (1, 1))
        return Problem(self.file, line, col, message)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rendered:
    """A mail as one customer gets it; the subject is one line."""

    subject: str
    preheader: str
    html: str
    text: str


def load_mail(compiled: Mapping[str, Any]) -> Mail:
    """Make a mail of what `compile_mail` returned; pure and without MJML, so worth a cache by digest."""
    subject, preheader, html, text = (parse_text(compiled[part]) for part in ("subject", "preheader", "html", "text"))
    parts = (subject, preheader, html, text)
    return Mail(
        name=compiled["name"],
        kind=compiled["kind"],
        topic=compiled["topic"],
        subject=subject,
        preheader=preheader,
        html=html,
        text=text,
        names=frozenset().union(*(part.names for part in parts)),
        calls=frozenset().union(*(part.calls for part in parts)),
        size=len(compiled["html"].encode()),
        subject_letters=len(MARKED.sub("", compiled["subject"])),
        file=compiled["file"],
        places={key: (line, col) for key, (line, col) in compiled["places"].items()},
    )


def with_shop(mail: Mail, shop: Mapping[str, object]) -> Mail:
    """The same mail in its language, with the shop's facts written already, since they are every customer's."""
    constants = {"shop": shop}
    mail = _spoken(mail, str(shop.get("locale") or "en"))
    return replace(
        mail,
        subject=mail.subject.with_constants(constants, escape=False),
        preheader=mail.preheader.with_constants(constants, escape=False),
        html=mail.html.with_constants(constants, escape=True),
        text=mail.text.with_constants(constants, escape=False),
    )


def _spoken(mail: Mail, shop_locale: str) -> Mail:
    """The mail with its dates and prices in its own language, or the shop's; English ones are as currencies have it."""
    locale = mail.locale or shop_locale
    if mail.locale is None and language(locale) == "en":
        return mail
    texts = (mail.subject, mail.preheader, mail.html, mail.text)
    subject, preheader, html, text = (one.spoken_in(locale) for one in texts)
    return replace(mail, subject=subject, preheader=preheader, html=html, text=text)


def render_mail(mail: Mail, facts: Mapping[str, object], functions: Mapping[str, Callable[..., object]]) -> Rendered:
    """Fill a mail in for one customer. HTML is escaped; subject, preheader and text are plain.

    Raises:
      RenderError: something that the mail needs is missing, such as `order.total`.
    """
    return Rendered(
        subject=render_subject(mail, facts, functions),
        preheader=_one_line(mail.preheader.render(facts, functions, escape=False)),
        html=mail.html.render(facts, functions, escape=True),
        text=mail.text.render(facts, functions, escape=False),
    )


def render_subject(mail: Mail, facts: Mapping[str, object], functions: Mapping[str, Callable[..., object]]) -> str:
    """Fill in the subject alone: plain text of one line.

    Raises:
      RenderError: something that the subject needs is missing.
    """
    return _one_line(mail.subject.render(facts, functions, escape=False))


def _one_line(text: str) -> str:
    """Without line breaks and control characters, so that no name can add a header to a mail."""
    return " ".join(_CONTROL.sub(" ", text).split())
