"""Where a coupon's codes come from, as both kinds of programme files say it under `coupons`.

    coupons:
      thanks-10:
        codes: shopify
        percent: 10
        minimum: 20.00
        valid_for: 90 days

Codes are imported from a list that the shop made, or created at the shop, each worth what the file says.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from afterglow.durations import Duration
from afterglow.language.compiling import Compiler, Path
from afterglow.problems import did_you_mean

Provider = Literal["shopify", "woocommerce", "stripe"]
PROVIDERS: Final[tuple[Provider, ...]] = get_args(Provider)

CouponName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=60)]


def _described(text: str, **options: Any) -> Any:
    return Field(description=text, **options)


class CouponModel(BaseModel):
    """A coupon: where its codes come from, and what a created one is worth."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    codes: Literal["imported", "shopify", "woocommerce", "stripe"] = _described(
        "`imported` from a list (`afterglow loyalty codes`), or created at `shopify`, `woocommerce` or `stripe`."
    )
    percent: Decimal | None = _described("What is taken off the order, in percent.", default=None, gt=0, le=100)
    amount: Decimal | None = _described(
        "What is taken off the order, in major units of the shop's currency.", default=None, gt=0, le=1_000_000
    )
    minimum: Decimal | None = _described(
        "The least that the order must come to, in major units.", default=None, gt=0, le=1_000_000
    )
    once_per_customer: bool | None = _described(
        "Whether a code is good for one order of a customer; so it is unless given.", default=None
    )
    valid_for: str | None = _described("How long a code is good, such as `90 days`; without it, always.", default=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Coupon:
    """A compiled coupon. Imported where there is no provider; else one of `percent` and `amount` (major units)."""

    name: str
    provider: Provider | None = None
    percent: Decimal | None = None
    amount: Decimal | None = None
    minimum: Decimal | None = None
    once_per_customer: bool = True
    valid_for: Duration | None = None


def compile_coupons(
    compiler: Compiler, models: Mapping[str, CouponModel], given: Collection[str]
) -> Mapping[str, Coupon]:
    """The coupons of a programme by name, every slip noted with the compiler.

    Args:
      given: the names that the programme's rewards give.
    """
    made: dict[str, Coupon] = {}
    for name, model in models.items():
        path: Path = ("coupons", name)
        if name not in given:
            compiler.say(path, f"No reward of this programme gives the coupon '{name}'.{did_you_mean(name, given)}")
        made[name] = _compiled(compiler, name, model, path)
    return made


def _compiled(compiler: Compiler, name: str, model: CouponModel, path: Path) -> Coupon:
    if model.codes == "imported":
        for key in ("percent", "amount", "minimum", "once_per_customer", "valid_for"):
            if getattr(model, key) is not None:
                message = f"What an imported code is worth, the shop said when it made it; take '{key}' away."
                compiler.say((*path, key), message)
        return Coupon(name=name)
    if (model.percent is None) == (model.amount is None):
        compiler.say(path, "A created code takes a 'percent' or an 'amount' off the order: give one of the two.")
    if model.percent is not None and model.percent != round(model.percent, 2):
        compiler.say((*path, "percent"), "A percentage has two decimals at most.")
    return Coupon(
        name=name,
        provider=model.codes,
        percent=model.percent,
        amount=model.amount,
        minimum=model.minimum,
        once_per_customer=model.once_per_customer is not False,
        valid_for=compiler.duration(model.valid_for, (*path, "valid_for")) if model.valid_for else None,
    )
