"""JSON Schema of the files, for editors: what `afterglow schema` prints and `afterglow init` writes.

With the YAML language server, an editor completes keys, shows what they mean and marks slips while one types.
What the schema accepts may still be refused by `check`, which also knows the other files; never the other way round.
"""

from typing import Annotated, Any, Final

from pydantic import BaseModel, Field, RootModel

from afterglow.language.flow import FlowModel, PieceModel
from afterglow.language.programme import LoyaltyModel
from afterglow.language.referral import ReferralModel
from afterglow.language.segment import SegmentsModel
from afterglow.language.shop import ShopModel, StagesModel
from afterglow.language.source import Source


class _Programme(RootModel[Annotated[LoyaltyModel | ReferralModel, Field(discriminator="kind")]]):
    """A programme of either kind."""


_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_MODELS: Final[dict[str, tuple[type[BaseModel], str]]] = {
    "flow": (FlowModel, "A flow of Afterglow: flows/NAME.yaml"),
    "piece": (PieceModel, "Steps that several flows use: flows/pieces/NAME.yaml"),
    "shop": (ShopModel, "The shop: flows/shop.yaml"),
    "stages": (StagesModel, "The stages of a customer's journey: flows/stages.yaml"),
    "segments": (SegmentsModel, "The segments of a shop's customers: flows/segments.yaml"),
    "source": (Source, "A source of webhooks: flows/sources/NAME.yaml"),
    "programme": (_Programme, "A loyalty or referral programme: flows/programmes/NAME.yaml"),
}
#: The files that each schema is for, below the shop's folder, as globs of editors; `!` takes files out again.
FILES: Final[dict[str, tuple[str, ...]]] = {
    "flow": ("flows/*.yaml", "!flows/shop.yaml", "!flows/stages.yaml", "!flows/segments.yaml"),
    "piece": ("flows/pieces/*.yaml",),
    "shop": ("flows/shop.yaml",),
    "stages": ("flows/stages.yaml",),
    "segments": ("flows/segments.yaml",),
    "source": ("flows/sources/*.yaml",),
    "programme": ("flows/programmes/*.yaml",),
}


def json_schemas() -> dict[str, dict[str, Any]]:
    """JSON Schema (draft 2020-12) by kind of file: flow, piece, shop, stages, segments, source, programme."""
    return {name: _schema(name, model, title) for name, (model, title) in _MODELS.items()}


def _schema(name: str, model: type[BaseModel], title: str) -> dict[str, Any]:
    schema = _numbers_as_text(model.model_json_schema(by_alias=True, mode="validation"))
    return {"$schema": _DRAFT, "$id": f"urn:afterglow:schema:{name}", **schema, "title": title}


def _numbers_as_text(part: Any) -> Any:
    """The schema with plain numbers allowed where text is: strict YAML takes them as the text that was written.

    Titles go, since pydantic makes them of Python's names; so does `null` as a default, which editors would offer.
    """
    if isinstance(part, list):
        return [_numbers_as_text(inner) for inner in part]
    if not isinstance(part, dict):
        return part
    # Our unions are told apart by their keys, which a schema does not know: several of them may fit a value.
    changed = {
        "anyOf" if key == "oneOf" else key: _named(key, inner)
        for key, inner in part.items()
        if not _is_noise(key, inner)
    }
    if changed.get("type") == "string" and not {"enum", "const"} & changed.keys():
        changed["type"] = ["string", "number"]
    return changed


def _named(key: str, inner: Any) -> Any:
    """Below `properties` and `$defs` the keys are names, so that a property called `title` stays."""
    if key in ("properties", "$defs") and isinstance(inner, dict):
        return {name: _numbers_as_text(value) for name, value in inner.items()}
    return _numbers_as_text(inner)


def _is_noise(key: str, inner: Any) -> bool:
    return (key == "title" and isinstance(inner, str)) or (key == "default" and inner is None)
