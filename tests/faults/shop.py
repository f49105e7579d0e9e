"""The shop of the fault tests: one flow of five steps that sends four mails and waits for one event.

    order.paid -> receipt (service) -> until order.delivered -> note -> news or invite (marketing) -> thanks (service)

No quiet hours and no caps: whatever is not sent at once was lost or is in doubt.
"""

import json
from collections.abc import Mapping
from functools import cache

from afterglow import ROOT

FLOW = "first-order"
#: Each run queues one touchpoint for every one of these, by kind.
SERVICE = ("receipt", "thanks")
MARKETING = ("note", "extra")
STEPS = SERVICE + MARKETING

_SHOP = {
    "name": "Faulty Shop",
    "url": "https://faults.example",
    "sender": {"name": "Faulty Shop", "address": "hello@faults.example"},
    "postal_address": "1 Broken Street",
    "currency": "EUR",
    "timezone": "Europe/Paris",
    "topics": {"care": {"label": "Care"}},
}

_FLOW = {
    "flow": FLOW,
    "about": "Five steps without a long wait",
    "status": "live",
    "starts": {"event": "order.paid"},
    "once_per": "order.id",
    "topic": "care",
    "steps": [
        {"send": "email/receipt", "id": "receipt"},
        {"id": "arrival", "wait_for": "order.delivered", "same": "order.id", "for_up_to": "2 days"},
        {"send": "email/note", "id": "note"},
        {"id": "half", "if": "order.total > 40", "then": [{"send": "email/news", "id": "extra"}],
         "else": [{"send": "email/invite", "id": "extra-invite"}]},
        {"send": "email/thanks", "id": "thanks"},
    ],
}  # fmt: skip

_MAILS = {
    "receipt": ("service", "Thank you, {{ customer.first_name | default('you') }}: order {{ order.id }}."),
    "thanks": ("service", "Your order {{ order.id }} is done."),
    "note": ("marketing", "A note for you."),
    "news": ("marketing", "News."),
    "invite": ("marketing", "Bring friends."),
}


def step_of(step: str) -> str:
    """The step as STEPS has it: both branches send the same kind of mail."""
    return "extra" if step == "extra-invite" else step


@cache
def files() -> Mapping[str, str]:
    """The shop's files: text by path. What every shop shares is the shipped shop's."""
    texts = {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
        for path in (
            *(ROOT / "templates/email").glob("_*"),
            *(ROOT / "flows/sources" / f"{name}.yaml" for name in ("generic", "shopify")),
            ROOT / "flows/stages.yaml",
        )
    }
    texts |= {"flows/shop.yaml": json.dumps(_SHOP), f"flows/{FLOW}.yaml": json.dumps(_FLOW)}
    for name, (kind, text) in _MAILS.items():
        body = f"<mj-section><mj-column><mj-text>{text}</mj-text></mj-column></mj-section>"
        head = f"---\nkind: {kind}\nsubject: A {name}\npreheader: Look\n---\n"
        texts[f"templates/email/{name}.mjml"] = f"{head}{body}\n"
        texts[f"templates/email/{name}.txt"] = f"{text}\n"
    return texts
