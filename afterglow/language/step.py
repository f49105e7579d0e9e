"""What every step of a flow may say, whatever it does."""

from pydantic import BaseModel, ConfigDict, Field


class StepBase(BaseModel):
    """What every step may say."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    was: str | list[str] | None = Field(
        default=None,
        description="The id, or ids, under which an older version of the flow had this step; who stands there stands "
        "here.",
    )
