"""What else is wrong in a file that does not compile, as far as it can be read in spite of that.

A writer who slips in one key would otherwise be told of the rest only once that is mended.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import TypeVar

from pydantic import BaseModel

from afterglow.language.check.programmes import check_loyalty
from afterglow.language.check.referrals import check_referral
from afterglow.language.check.segments import check_segment
from afterglow.language.check.sources import check_owners, check_shop, check_source
from afterglow.language.check.supply import World
from afterglow.language.programme import LoyaltyModel, sketch_loyalty
from afterglow.language.referral import ReferralModel, sketch_referral
from afterglow.language.segment import SegmentsModel, sketch_segments
from afterglow.language.shop import Shop, ShopModel, sketch_shop
from afterglow.language.source import Source, fetched_problems
from afterglow.problems import Problem, Problems
from afterglow.strict_yaml import Document, load
from afterglow.strict_yaml.salvage import salvaged, speaks_of_a_stand_in

_Model = TypeVar("_Model", bound=BaseModel)


def further_in_shop(
    text: str, file: str, flows: Collection[str], sources: Mapping[str, Source] | None, world: World
) -> Iterator[Problem]:
    """What else is wrong with shop.yaml. `sources` is None where not all of them can be read."""
    for document, model in _read(text, file, ShopModel):
        shop, problems = sketch_shop(document, model)
        yield from _ours(problems)
        yield from _ours(check_shop(shop, flows, world))
        if sources is not None:
            yield from _ours(one for one in check_owners(shop, sources) if one.file == file)


def further_in_source(text: str, file: str, shop: Shop | None, stages: Collection[str] | None) -> Iterator[Problem]:
    """What else is wrong with a source."""
    for document, source in _read(text, file, Source):
        yield from _ours(fetched_problems(source, document))
        yield from _ours(check_source(source, text, file, shop, stages))


def further_in_segments(text: str, file: str, world: World, files: Collection[str]) -> Iterator[Problem]:
    """What else is wrong with segments.yaml, beside the files of the shop."""
    for document, model in _read(text, file, SegmentsModel):
        segments, problems = sketch_segments(document, model)
        yield from _ours(problems)
        for segment in segments:
            yield from _ours(check_segment(segment, world, files))


def further_in_programme(
    text: str, file: str, world: World, shop: Shop | None, loyalty: Collection[str] | None
) -> Iterator[Problem]:
    """What else is wrong with a programme, whose kind it must say."""
    for document, loyal in _read(text, file, LoyaltyModel, kind="loyalty"):
        programme, problems = sketch_loyalty(document, loyal)
        yield from _ours(problems)
        yield from _ours(check_loyalty(programme, world))
    for document, referred in _read(text, file, ReferralModel, kind="referral"):
        referral, problems = sketch_referral(document, referred)
        yield from _ours(problems)
        yield from _ours(check_referral(referral, world, shop, loyalty))


def _read(text: str, file: str, model: type[_Model], *, kind: str | None = None) -> Iterator[tuple[Document, _Model]]:
    """The file and what can be saved of it, where that is enough to go on."""
    try:
        document = load(text, file)
    except Problems:
        return
    if kind is not None and (not isinstance(document.data, dict) or document.data.get("kind") != kind):
        return
    saved = salvaged(document, model)
    if saved is not None:
        yield document, saved


def _ours(problems: Iterator[Problem] | tuple[Problem, ...]) -> Iterator[Problem]:
    """Those that speak of what the writer wrote."""
    return (problem for problem in problems if not speaks_of_a_stand_in(problem.message))
