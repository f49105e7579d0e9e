"""A touchpoint as the customer reads it: the template, the facts it was pinned to, and its own links.

What is stored is the context, not the mail: the same context gives the same mail again, for a second attempt, for the
outbox page and for `export`. Links derive from the touchpoint, so that they need not be stored either.
"""

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from afterglow.language.shop import Shop
from afterglow.mail.locales import words
from afterglow.mail_templates import Mail, Rendered, render_mail, render_subject
from afterglow.reviews import SHOP
from afterglow.surveys import STARS
from afterglow.tokens import LONG_MAC_BYTES, make_token

#: What tokens are for; a token made for one purpose is worth nothing for another.
UNSUBSCRIBE = "unsubscribe"
RATE = "rate"
ME = "me"

#: The functions of templates that tell of reviews; each takes a product.
REVIEWS = ("best_review", "average_rating", "review_count")

_NOTHING: Mapping[str, str] = {}

#: Names in templates that come from the touchpoint itself, not from facts.
OWN_NAMES = frozenset(
    {
        "unsubscribe_url", "unsubscribe_text", "preferences_url", "preferences_text", "me_url", "why_line",
        "customer_url", "tasks_url",
    }
)  # fmt: skip
#: Those that only a note to a team has; events may carry facts of the same names into other mails.
TEAM_NAMES = frozenset({"about", "team", "task", "due"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Letterhead:
    """What all letters of an installation share."""

    shop: Shop
    public_url: str
    private_url: str
    secret: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Addressed:
    """The touchpoint that a letter belongs to."""

    touchpoint_id: int
    customer_id: int
    kind: str
    topic: str | None


def unsubscribe_url(head: Letterhead, to: Addressed) -> str:
    """The page, and the one-click address, that ends marketing for this customer (RFC 8058)."""
    return f"{head.public_url}/u/{make_token(head.secret, UNSUBSCRIBE, to.touchpoint_id, to.customer_id)}"


def rate_url(head: Letterhead, to: Addressed, survey: str, score: int | None = None, scale: str = STARS.name) -> str:
    """The page on which this customer answers a survey, with a score chosen already where one is given."""
    token = make_token(head.secret, rate_purpose(survey, scale), to.touchpoint_id, to.customer_id)
    path = f"/rate/{survey}/{token}" if scale == STARS.name else f"/rate/{scale}/{survey}/{token}"
    return f"{head.public_url}{path}" + (f"?score={score}" if score is not None else "")


def rate_purpose(survey: str, scale: str) -> str:
    """What the token of a survey is for: nobody can answer it on another scale."""
    return f"{RATE} {survey}" if scale == STARS.name else f"{RATE} {scale} {survey}"


def me_token(secret: bytes, customer_id: int, generation: int) -> str:
    """What opens a customer's own page, while the generation is theirs: nobody can guess it (128 bits).

    It is derived, so that a mail can be made again from its context, and nothing that opens a page is stored.
    """
    return make_token(secret, ME, customer_id, generation, mac_bytes=LONG_MAC_BYTES)


def me_url(public_url: str, secret: bytes, customer_id: int, generation: int) -> str:
    """A customer's own page."""
    return f"{public_url}/me/{me_token(secret, customer_id, generation)}"


def reads_me(mail: Mail) -> bool:
    """Whether a mail links the customer's own page."""
    return "me_url" in mail.names


def referral_code(secret: bytes, programme: str, customer_id: int) -> str:
    """A customer's own code in a programme: 13 letters that nobody can guess (65 bits), in groups of four."""
    mac = hmac.new(secret, f"referral\0{programme}\0{customer_id}".encode(), hashlib.sha256).digest()
    letters = base64.b32encode(mac).decode()[:13]
    return f"{letters[:4]}-{letters[4:8]}-{letters[8:]}"


def programmes(mail: Mail) -> frozenset[str]:
    """The referral programmes whose codes a mail names."""
    return _named(mail, "referral_link")


def tried(mail: Mail) -> frozenset[str]:
    """The referral programmes whose variants a mail asks for."""
    return _named(mail, "referral_variant")


def reviewed(mail: Mail) -> frozenset[str]:
    """The products of whose reviews a mail tells; `SHOP` where it tells of those of the shop itself."""
    of_shop = any(name in REVIEWS and not arguments for name, arguments in mail.calls)
    return _named(mail, *REVIEWS) | ({SHOP} if of_shop else set())


def _named(mail: Mail, *functions: str) -> frozenset[str]:
    return frozenset(str(arguments[0]) for name, arguments in mail.calls if name in functions and arguments)


def context(
    mail: Mail,
    names: Mapping[str, Any],
    codes: Mapping[str, str],
    extra: Mapping[str, Any],
    variants: Mapping[str, str] = _NOTHING,
    generation: int = 0,
    reviews: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """What must be kept to make this letter again: only the facts that its template reads.

    Args:
      variants: of the rewards that the customer offers, by referral programme.
      generation: of the links to the customer's own page.
      reviews: what is known of the reviews of products, by product.
    """
    kept: dict[str, Any] = {}
    for dotted in mail.names:
        root, _, field = dotted.partition(".")
        if root == "shop" or root in OWN_NAMES or root in extra or root not in names:
            continue
        field = field.partition(".")[0].partition("[")[0]
        if root == "customer" and field:
            value = names[root].get(field)
            kept.setdefault(root, {})[field] = value
        else:
            kept[root] = names[root]
    made: dict[str, Any] = {"names": kept}
    if codes:
        made["codes"] = dict(codes)
    if generation:
        made["me"] = generation
    if variants:
        made["variants"] = dict(variants)
    if told := {product: dict(one) for product, one in (reviews or {}).items() if product in reviewed(mail)}:
        made["reviews"] = told
    if extra:
        made["extra"] = dict(extra)
    return made


def render(mail: Mail, stored: Mapping[str, Any], head: Letterhead, to: Addressed) -> Rendered:
    """Make the letter of a stored context.

    Raises:
      RenderError: naming what is missing.
    """
    return render_mail(mail, *_given(mail, stored, head, to))


def subject(mail: Mail, stored: Mapping[str, Any], head: Letterhead, to: Addressed) -> str:
    """The subject alone, for lists: a hundredth of the work.

    Raises:
      RenderError: naming what is missing.
    """
    return render_subject(mail, *_given(mail, stored, head, to))


def _given(
    mail: Mail, stored: Mapping[str, Any], head: Letterhead, to: Addressed
) -> tuple[dict[str, Any], dict[str, Callable[..., Any]]]:
    """The names and functions that a template of this touchpoint sees."""
    own = unsubscribe_url(head, to) if to.kind == "marketing" else None
    said = words(mail.locale or head.shop.model.locale)
    names = {
        **stored["names"],
        "shop": head.shop.facts,
        "unsubscribe_url": own,
        "unsubscribe_text": said.unsubscribe,
        "preferences_url": own,
        "preferences_text": said.preferences,
        "why_line": why_line(head.shop, to, mail.locale),
        "customer_url": f"{head.private_url}/customers/{to.customer_id}",
        "tasks_url": f"{head.private_url}/tasks",
        **stored.get("extra", {}),
    }
    if reads_me(mail):
        names["me_url"] = me_url(head.public_url, head.secret, to.customer_id, stored.get("me", 0))
    codes, variants = stored.get("codes", {}), stored.get("variants", {})

    def referral_link(programme: str) -> str:
        return f"{head.public_url}/r/{codes[programme]}"

    def referral_variant(programme: str) -> str:
        return str(variants.get(programme, ""))

    def rate(survey: str, *more: int | str) -> str:
        score = next((one for one in more if isinstance(one, int)), None)
        return rate_url(head, to, survey, score, next((one for one in more if isinstance(one, str)), STARS.name))

    def review(what: str, instead: Any) -> Callable[..., Any]:
        return lambda product=SHOP: stored.get("reviews", {}).get(product, {}).get(what, instead)

    return names, {
        "referral_link": referral_link,
        "referral_variant": referral_variant,
        "rate": rate,
        "best_review": review("quote", ""),
        "average_rating": review("average", ""),
        "review_count": review("count", 0),
    }


def why_line(shop: Shop, to: Addressed, locale: str | None = None) -> str:
    """Why somebody gets this, in one sentence, in the language of the mail, or the shop's."""
    said = words(locale or shop.model.locale)
    if to.kind == "marketing":
        topic = shop.model.topics.get(to.topic or "")
        # The label of a topic is in the shop's language only.
        label = f" ({topic.label.lower()})" if topic and locale is None else ""
        return said.agreed.format(name=shop.model.name, topic=label)
    if to.kind == "service":
        return said.did.format(name=shop.model.name)
    return "You get this because a flow asked your team to look."


def headers(head: Letterhead, to: Addressed) -> dict[str, str]:
    """Headers that a letter brings along; one-click unsubscribe for marketing (RFC 8058)."""
    if to.kind == "marketing":
        return {
            "List-Unsubscribe": f"<{unsubscribe_url(head, to)}>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        }
    return {"Auto-Submitted": "auto-generated"}
