"""From the bytes of a webhook to an event of the shop, by the rules of a source file.

Two passes, because they run in different places. `elements` (intake.py) is all that happens while the
provider waits: parse once, divide, find the key. `map_element` (rules.py) is the work behind it: the first rule
that holds says what happened, to whom, and what it carries. Whatever a stranger sends, only Unmappable comes
out, with a reason for whoever looks after the inbox; reasons name fields, never what customers wrote in them.
"""

from afterglow.mapping.conforming import conforming
from afterglow.mapping.facts import Account, Consent, CustomerFacts, Ignored, Mapped, PrivacyRequest, Unmappable
from afterglow.mapping.fetching import Lacking
from afterglow.mapping.intake import FORMATS, Answer, Element, elements, parsed
from afterglow.mapping.rules import map_element

__all__ = [
    "FORMATS",
    "Account",
    "Answer",
    "Consent",
    "CustomerFacts",
    "Element",
    "Ignored",
    "Lacking",
    "Mapped",
    "PrivacyRequest",
    "Unmappable",
    "conforming",
    "elements",
    "map_element",
    "parsed",
]
