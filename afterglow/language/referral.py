"""Programme files of the kind `referral`: who brought whom, and what both get for it."""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from afterglow import strict_yaml


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _described(text: str, **options: Any) -> Any:
    return Field(description=text, **options)


class ReferralModel(_Model):
    """A referral programme: a reward for bringing friends."""

    programme: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=60)] = _described(
        "Name of the programme; the same as the file's."
    )
    kind: Literal["referral"] = _described("`referral`; a programme of the kind `loyalty` says other things.")
    about: str = _described("What it is for, in one line.")


@dataclass(frozen=True, kw_only=True)
class ReferralProgramme:
    """A compiled referral programme."""

    name: str
    about: str
    document: strict_yaml.Document = field(repr=False, compare=False)


@lru_cache(maxsize=64)
def read_referral(text: str, file: str) -> ReferralProgramme:
    """Compile a programme file of the kind `referral`.

    Raises:
      Problems: everything that is wrong with the file by itself, each with its place.
    """
    document = strict_yaml.load(text, file)
    model = strict_yaml.validated(document, ReferralModel)
    return ReferralProgramme(name=model.programme, about=model.about, document=document)
