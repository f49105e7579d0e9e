"""Mails before anybody gets them: written from a shop's folder, and sent to its own teams as a test."""

import secrets
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import datetime
from typing import Any, Final

from afterglow.errors import AfterglowError
from afterglow.expressions import RenderError
from afterglow.language.catalog import Catalog, compile_files, read_documents
from afterglow.language.shop import Shop
from afterglow.mail_templates import compile_mail, load_mail, with_shop
from afterglow.mime import Outgoing, message_id_for
from afterglow.previews import Preview, as_test, languages, preview, roots
from db.settings import Settings
from workers.channels import Sent, make_channel

#: How long the provider may take over a test, in seconds.
DEADLINE_S: Final = 30.0


class CannotBeWrittenError(AfterglowError):
    """A fact that the mail needs is missing."""


class NotATeamError(AfterglowError):
    """Tests go to addresses of the shop's teams only."""


class NotAllowedError(AfterglowError):
    """The staging guard holds: the address is not in AFTERGLOW_ALLOW."""


class NoChannelError(AfterglowError):
    """No provider is set, so nothing can leave the machine."""


def catalog_of(files: Mapping[str, str]) -> Catalog:
    """The flows, stages, sources and programmes of a shop's files, without its mails: those take longest to compile.

    Raises:
      Problems: everything that is wrong in them.
    """
    without = {file: text for file, text in files.items() if file.startswith("flows/")}
    return read_documents({(document.kind, document.name): document.body for document in compile_files(without)})


def mails_of(catalog: Catalog, files: Mapping[str, str], template: str) -> dict[str | None, Any]:
    """The mails of a template by locale; None is the one without.

    Raises:
      UnknownTemplateError: there is none.
      Problems: what is wrong with them.
    """
    names = (file.removeprefix("templates/").removesuffix(".mjml") for file in files if file.endswith(".mjml"))
    return {
        locale: with_shop(load_mail(compile_mail(name, files)), catalog.shop.facts)
        for locale, name in languages(names, template).items()
    }


def wanted_of(mails: Mapping[str | None, Any]) -> frozenset[str]:
    """The first names that any of these mails reads."""
    return frozenset(name for mail in mails.values() for name in roots(mail))


def previews_of(
    catalog: Catalog,
    mails: Mapping[str | None, Any],
    template: str,
    facts: Mapping[str, Any],
    settings: Settings,
    now: datetime,
) -> list[Preview]:
    """A mail in every language it has.

    Raises:
      CannotBeWrittenError: naming what is missing.
    """
    try:
        return [
            preview(catalog, mail, template, locale, facts, public_url=settings.public_url, now=now)
            for locale, mail in mails.items()
        ]
    except RenderError as error:
        raise CannotBeWrittenError(
            f"{template} cannot be written: {error}. Give the fact in a file: --customer facts.yaml."
        ) from None


def team_address(shop: Shop, settings: Settings, given: str) -> str:
    """The address that a test may go to.

    Raises:
      NotATeamError: no team of shop.yaml has it.
      NotAllowedError: the installation is not live, and the address is not in AFTERGLOW_ALLOW.
    """
    known = {team.address.lower(): team.address for team in shop.model.teams.values()}
    if given.lower() not in known:
        listed = ", ".join(sorted(known.values())) or "none yet"
        raise NotATeamError(
            f"Tests go to teams of shop.yaml only ({listed}); add a team there with the address, then try again."
        )
    if not settings.may_mail(given):
        raise NotAllowedError(
            "The staging guard holds: this installation is not live, and the address is not in AFTERGLOW_ALLOW; add it."
        )
    return known[given.lower()]


def send_as_test(shop: Shop, settings: Settings, address: str, previews: Sequence[Preview], now: datetime) -> list[str]:
    """Hand mails to the provider that customers' mails go to, marked as tests. Why those did not go that did not.

    Raises:
      NoChannelError: there is no provider: mails stay in the outbox here, and a test is in none.
    """
    url = settings.smtp_url.get_secret_value()
    if not url:
        raise NoChannelError(
            "AFTERGLOW_SMTP_URL is not set, so no mail leaves this machine; set it, or look at `afterglow preview`."
        )
    with closing(make_channel("smtp", url)) as channel:
        fates = channel.send([_letter(shop, address, one, now) for one in previews], DEADLINE_S)
    return [fate.reason for fate in fates if not isinstance(fate, Sent)]


def _letter(shop: Shop, address: str, found: Preview, now: datetime) -> Outgoing:
    sender, rendered, key = shop.model.sender, as_test(found), secrets.token_hex(16)
    return Outgoing(
        touchpoint_id=0,  # there is none
        to_address=address,
        to_name=None,
        sender_name=sender.name,
        sender_address=sender.address,
        reply_to=shop.model.reply_to,
        subject=rendered.subject,
        html=rendered.html,
        text=rendered.text,
        headers={"Auto-Submitted": "auto-generated"},
        message_id=message_id_for(key, sender.address.rpartition("@")[2]),
        date=now,
        idempotency_key=key,
    )
