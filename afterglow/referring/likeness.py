"""How alike two people look: addresses in one spelling, names and the part before the @ compared.

Nothing here is stored: what comes out is a keyed hash made elsewhere, or a number.
"""

import re
import unicodedata
from difflib import SequenceMatcher
from typing import Final

#: Google reads points in an address as nothing, under both names (Gmail Help, "Dots don't matter in Gmail addresses").
_WITHOUT_POINTS: Final = frozenset({"gmail.com", "googlemail.com"})
_ALIASES: Final = {"googlemail.com": "gmail.com"}

#: Domains that give anybody an address for some minutes. Short: a shop that is plagued by others rejects by hand.
DISPOSABLE: Final = frozenset(
    [
        "10minutemail.com",
        "20minutemail.com",
        "33mail.com",
        "anonaddy.me",
        "burnermail.io",
        "discard.email",
        "dispostable.com",
        "dropmail.me",
        "emailondeck.com",
        "fakeinbox.com",
        "fakemail.net",
        "getairmail.com",
        "getnada.com",
        "grr.la",
        "guerrillamail.biz",
        "guerrillamail.com",
        "guerrillamail.de",
        "guerrillamail.net",
        "guerrillamail.org",
        "guerrillamailblock.com",
        "inboxkitten.com",
        "incognitomail.org",
        "mail-temp.com",
        "mail7.io",
        "mailcatch.com",
        "maildrop.cc",
        "mailforspam.com",
        "mailinator.com",
        "mailinator.net",
        "mailnesia.com",
        "mailsac.com",
        "mintemail.com",
        "moakt.com",
        "mohmal.com",
        "mytemp.email",
        "nada.email",
        "sharklasers.com",
        "spam4.me",
        "spambog.com",
        "spamgourmet.com",
        "temp-mail.io",
        "temp-mail.org",
        "tempail.com",
        "tempinbox.com",
        "tempmail.dev",
        "tempmail.net",
        "tempmailo.com",
        "tempr.email",
        "throwawaymail.com",
        "trash-mail.com",
        "trashmail.com",
        "trashmail.de",
        "yopmail.com",
        "yopmail.fr",
        "yopmail.net",
    ]
)


def untagged(address: str) -> str:
    """The address without a tag: `sam+shop@example.com` reaches whoever `sam@example.com` reaches."""
    local, _, domain = address.strip().lower().rpartition("@")
    return f"{local.partition('+')[0] or local}@{domain}"


def canonical(address: str) -> str:
    """One spelling for all addresses that reach one mailbox: no tag, and at Google no points and one domain."""
    local, _, domain = untagged(address).rpartition("@")
    if domain in _WITHOUT_POINTS:
        local = local.replace(".", "") or local
    return f"{local}@{_ALIASES.get(domain, domain)}"


def is_disposable(address: str) -> bool:
    """Whether the address is of a domain, or below one, that gives addresses for some minutes."""
    parts = address.strip().lower().rpartition("@")[2].split(".")
    return any(".".join(parts[n:]) in DISPOSABLE for n in range(len(parts) - 1))


def alike(one: str | None, other: str | None) -> int:
    """How alike two texts are, from 0 to 100, whatever their case, accents and signs; 0 where one lacks."""
    first, second = _plain(one), _plain(other)
    return round(100 * SequenceMatcher(None, first, second, autojunk=False).ratio()) if first and second else 0


def local_part(address: str | None) -> str | None:
    """What stands before the @ in the canonical spelling, without digits: sam1 and sam2 are alike."""
    if not address:
        return None
    return re.sub(r"\d", "", canonical(address).rpartition("@")[0])[:64] or None


def _plain(text: str | None) -> str:
    decomposed = unicodedata.normalize("NFKD", (text or "")[:100].casefold())
    return "".join(letter for letter in decomposed if letter.isalnum())
