"""The shops at which codes can be created: where they are, what opens them, how they are talked to."""

import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from afterglow.coupons import shopify, stripe, woocommerce
from afterglow.coupons.talking import Creating, Disabling
from afterglow.coupons.terms import Terms
from afterglow.language.fetch import FetchRate, is_outside

_SHOP = re.compile(r"[a-z0-9][a-z0-9-]{0,99}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Access:
    """Where a provider's API is, and the headers that open it."""

    base: str
    headers: Mapping[str, str] = field(repr=False)


class NoAccessError(ValueError):
    """What the environment holds does not lead to a provider: what to do, in one sentence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Talks:
    """How a provider is talked to.

    Attributes:
      variables: what the environment must hold.
      access: where it is, from those; raises NoAccessError.
      rate: how often we ask it: well below what it allows, since others ask it too.
      create: a talk that has the code at its end, given the code, its terms and which try it is.
      disable: a talk at whose end it is out of use, given the code, its terms and the provider's id where it is known.
    """

    variables: tuple[str, ...]
    access: Callable[[Mapping[str, str]], Access]
    rate: FetchRate
    create: Callable[[str, Terms, int], Creating]
    disable: Callable[[str, Terms, str | None], Disabling]


def _shopify(given: Mapping[str, str]) -> Access:
    shop = given["SHOPIFY_SHOP"].removesuffix(".myshopify.com")
    if not _SHOP.fullmatch(shop):
        raise NoAccessError("SHOPIFY_SHOP is the name before .myshopify.com, small letters, digits and hyphens.")
    headers = {"X-Shopify-Access-Token": given["SHOPIFY_ADMIN_TOKEN"], "Content-Type": "application/json"}
    return Access(base=f"https://{shop}.myshopify.com", headers=headers)


def _woocommerce(given: Mapping[str, str]) -> Access:
    base = given["WOOCOMMERCE_URL"].rstrip("/")
    if not is_outside(base):
        raise NoAccessError(
            "WOOCOMMERCE_URL is the shop's address: https and a host's name, such as https://a.example."
        )
    pair = f"{given['WOOCOMMERCE_KEY']}:{given['WOOCOMMERCE_SECRET']}".encode()
    headers = {"Authorization": f"Basic {b64encode(pair).decode()}", "Content-Type": "application/json"}
    return Access(base=base, headers=headers)


def _stripe(given: Mapping[str, str]) -> Access:
    return Access(base="https://api.stripe.com", headers={"Authorization": f"Bearer {given['STRIPE_API_KEY']}"})


PROVIDERS: Final[Mapping[str, Talks]] = {
    "shopify": Talks(
        variables=("SHOPIFY_SHOP", "SHOPIFY_ADMIN_TOKEN"),
        access=_shopify,
        rate=FetchRate(at_most=4, within="1 second"),
        create=shopify.create,
        disable=shopify.disable,
    ),
    "woocommerce": Talks(
        variables=("WOOCOMMERCE_URL", "WOOCOMMERCE_KEY", "WOOCOMMERCE_SECRET"),
        access=_woocommerce,
        rate=FetchRate(at_most=2, within="1 second"),
        create=woocommerce.create,
        disable=woocommerce.disable,
    ),
    "stripe": Talks(
        variables=("STRIPE_API_KEY",),
        access=_stripe,
        rate=FetchRate(at_most=10, within="1 second"),
        create=stripe.create,
        disable=stripe.disable,
    ),
}


def access(provider: str, environment: Mapping[str, str]) -> Access:
    """Where a provider is, from what the environment holds.

    Raises:
      NoAccessError: a variable is not set, or cannot be used.
    """
    talks = PROVIDERS[provider]
    missing = [name for name in talks.variables if not environment.get(name)]
    if missing:
        raise NoAccessError(f"{' and '.join(missing)} must be in the environment or in .env.")
    for name in talks.variables:
        if not all(33 <= ord(letter) <= 126 for letter in environment[name]):
            raise NoAccessError(f"{name} holds a character that cannot stand in a header; correct it.")
    return talks.access(environment)
