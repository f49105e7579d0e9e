"""JSON Schema of the files, for editors: what `afterglow schema` prints and `afterglow init` writes.

With the YAML language server, an editor completes keys, shows what they mean and marks slips while one types.
What the schema accepts may still be refused by `check`, which also knows the other files; never the other way round.
"""

from fnmatch import fnmatchcase
from typing import Annotated, Any, Final

from pydantic import BaseModel, Field, RootModel

from afterglow.language.flow.models import FlowModel, PieceModel
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


#: What an editor puts in for a step: the keys that it needs, in a sensible order, ready to be filled in.
_SNIPPETS: Final[dict[str, dict[str, Any]]] = {
    "SendModel": {"send": "email/${1:template}"},
    "WaitModel": {"id": "${1:pause}", "wait": "${2:3 days}", "at": '"${3:10:00}"'},
    "UntilModel": {"id": "${1:workday}", "until": {"weekday": "${2:tuesday}", "at": '"${3:10:00}"'}},
    "WaitForModel": {
        "id": "${1:answer}",
        "wait_for": "${2:survey.answered}",
        "for_up_to": "${3:7 days}",
        "arrived": [{"send": "email/${4:thanks}"}],
        "timed_out": [{"send": "email/${5:tips}"}],
    },
    "IfModel": {"id": "${1:regulars}", "if": "${2:customer.orders >= 4}", "then": [{"send": "email/${3:thanks}"}]},
    "SplitModel": {
        "id": "${1:trial}",
        "split": [
            {"weight": 1, "name": "${2:one}", "steps": [{"send": "email/${3:one}"}]},
            {"weight": 1, "name": "${4:other}", "steps": [{"send": "email/${5:other}"}]},
        ],
    },
    "NotifyModel": {"notify": "${1:team}", "task": "${2:call}", "due": "${3:2 days}", "about": "${4:What to know.}"},
    "SurveyModel": {"survey": "email/${1:how-was-it}"},
    "UseModel": {"use": "${1:piece}"},
    "AwardModel": {"award": "${1:100}", "programme": "${2:programme}", "because": "${3:what for}"},
    "RedeemModel": {"redeem": "${1:reward}", "programme": "${2:programme}"},
    "SetModel": {"set": {"${1:attribute}": "${2:customer.last_order_at}"}},
    "MoveModel": {"move": "${1:stage}"},
    "StartModel": {"start": "${1:flow}"},
    "StopFlowModel": {"stop_flow": "${1:flow}"},
    "WebhookModel": {"webhook": "${1:name}", "given": {"${2:order}": "${3:order.id}"}},
    "StopModel": {"stop": "${1:why}"},
}


def json_schemas() -> dict[str, dict[str, Any]]:
    """JSON Schema (draft 2020-12) by kind of file: flow, piece, shop, stages, segments, source, programme."""
    return {name: _schema(name, model, title) for name, (model, title) in _MODELS.items()}


def _schema(name: str, model: type[BaseModel], title: str) -> dict[str, Any]:
    schema = _numbers_as_text(model.model_json_schema(by_alias=True, mode="validation"))
    for part, body in _SNIPPETS.items() if name == "flow" else ():
        label = next(key for key in body if key != "id")
        schema["$defs"][part]["defaultSnippets"] = [{"label": label, "body": body}]
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


def schema_of(file: str) -> str | None:
    """The kind of schema for a file below the shop's folder; None where there is none.

    >>> schema_of("flows/sources/shopify.yaml")
    'source'
    """
    fitting = (
        kind
        for kind, globs in FILES.items()
        if any(_fits(file, glob) for glob in globs if not glob.startswith("!"))
        and not any(_fits(file, glob[1:]) for glob in globs if glob.startswith("!"))
    )
    return next(fitting, None)


def _fits(file: str, glob: str) -> bool:
    """As editors read it: a `*` does not reach into folders below."""
    return file.count("/") == glob.count("/") and fnmatchcase(file, glob)
