"""The outbox: every mail as a list, and each as the customer sees it."""

from typing import Final

from starlette.responses import HTMLResponse, Response

from db import directory
from db import outbox as mails
from db.outbox import Wanted
from web.pages.look import Look, as_id
from web.wording import STATES

KINDS: Final = ("service", "marketing", "team")
#: A mail in a frame: its own styles and pictures, and nothing that acts. `sandbox` without a word takes scripts, forms
#: and our origin away from it, also where somebody opens the address alone.
MAIL_POLICY: Final = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src https: http: data:; font-src https: data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)


def outbox(look: Look) -> Response:
    """The list, newest first, with its filters in the address."""
    person = look.word("customer")
    secret = look.app.settings.secrets[0]
    customer_id = directory.exactly(look.connection, secret, person) if person else None
    wanted = Wanted(
        flow=look.word("flow"),
        step=look.word("step"),
        kind=look.word("kind"),
        state=look.word("state"),
        customer_id=customer_id,
        subject=look.word("subject"),
        before=look.number("before"),
    )
    unknown = person is not None and customer_id is None
    found = (
        mails.Found(items=()) if unknown else mails.mails(look.connection, look.app.catalog, look.app.settings, wanted)
    )
    flow = look.release.catalog.flows.get(wanted.flow or "")
    filters = ("flow", "step", "kind", "state", "customer", "subject")
    return look.page(
        "outbox",
        tab="outbox",
        found=found,
        wanted=wanted,
        person=person,
        unknown=unknown,
        is_filtered=any(look.word(name) for name in filters),
        flows=sorted({*look.release.catalog.flows, *([wanted.flow] if wanted.flow else [])}),
        steps=sorted(_mail_steps(flow) | ({wanted.step} if wanted.step else set())) if wanted.flow else [],
        kinds=KINDS,
        states=STATES,
        leaves=bool(look.app.settings.smtp_url.get_secret_value()),
    )


def _mail_steps(flow: object) -> set[str]:
    steps = getattr(flow, "steps", {})
    return {step.id for step in steps.values() if hasattr(step, "template") or hasattr(step, "team")}


def letter(look: Look) -> Response:
    """One mail: as it looks, as text, its headers, and its fate."""
    found = _letter(look)
    if found is None:
        return look.not_found("There is no mail of this number in the outbox.", tab="outbox")
    shop = look.release.catalog.shop
    zone = found.person.zone(shop) if found.person else shop.zone
    return look.page("letter", tab="outbox", letter=found, row=found.row, zone=zone, states=STATES)


def letter_html(look: Look) -> Response:
    """The mail's own HTML, for the frame."""
    found = _letter(look)
    html = found.rendered.html if found is not None and found.rendered is not None else "<p>There is no mail here.</p>"
    status = 200 if found is not None and found.rendered is not None else 404
    return HTMLResponse(html, status_code=status, headers={"content-security-policy": MAIL_POLICY})


def _letter(look: Look) -> mails.Letter | None:
    id_ = as_id(look.request.path_params["id"])
    if id_ is None:
        return None
    return mails.letter(look.connection, look.app.catalog, look.app.settings, id_)
