"""What a customer passes on: the texts of a programme, filled in, and the links of the buttons.

The texts read `customer` (first_name, last_name, locale), `shop`, `programme` (name, about), `link` and `code`; nothing
else of a customer, because what is shared leaves the house.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode

from afterglow.expressions import RenderError, Text
from afterglow.language.referral import SHARED, ReferralProgramme

#: What the texts may read of a customer, and of the programme.
CUSTOMER: Final = ("first_name", "last_name", "locale")
PROGRAMME: Final = ("name", "about")


@dataclass(frozen=True, kw_only=True, slots=True)
class Shared:
    """What the buttons of one programme share."""

    code: str
    link: str
    subject: str
    mail: str
    message: str

    @property
    def mailto(self) -> str:
        """Opens the customer's own mail program. RFC 6068: lines end with CRLF, a space is %20."""
        body = self.mail.replace("\r\n", "\n").replace("\n", "\r\n")
        return "mailto:?" + urlencode({"subject": " ".join(self.subject.split()), "body": body}, quote_via=quote)

    @property
    def whatsapp(self) -> str:
        """Opens WhatsApp, where the customer chooses whom to send it to."""
        return "https://wa.me/?" + urlencode({"text": self.message}, quote_via=quote)


def shared(
    programme: ReferralProgramme, customer: Mapping[str, Any], shop: Mapping[str, Any], *, code: str, link: str
) -> Shared:
    """What a customer shares. A text that cannot be filled in for them, such as for want of a name, is our own."""
    facts = {
        "customer": {name: customer.get(name) for name in CUSTOMER},
        "shop": shop,
        "programme": {name: getattr(programme, name) for name in PROGRAMME},
        "link": link,
        "code": code,
    }
    return Shared(
        code=code,
        link=link,
        **{name: _written(text, getattr(SHARED, name), facts) for name, text in programme.share.parts()},
    )


def _written(text: Text, ours: Text, facts: Mapping[str, Any]) -> str:
    try:
        return text.render(facts, escape=False).strip()
    except RenderError:
        return ours.render(facts, escape=False).strip()
