"""`check`: everything that is wrong in a shop's files, in one go, each problem with its place.

The files are first compiled one by one. What compiles is then held against the rest: a flow against the events,
stages, teams, topics and mails that it names, a mail against the flows that send it. Where a file cannot be read,
nobody is blamed for naming what it may hold.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from afterglow.captured import is_expectation
from afterglow.language.catalog import SEGMENTS, Document, compile_files, read_programme
from afterglow.language.check.actions import check_circles
from afterglow.language.check.flows import Surroundings, check_flow
from afterglow.language.check.further import (
    further_in_programme,
    further_in_segments,
    further_in_shop,
    further_in_source,
)
from afterglow.language.check.mails import check_mails
from afterglow.language.check.programmes import check_loyalty
from afterglow.language.check.referrals import check_referral
from afterglow.language.check.reviews import gated_in_flow
from afterglow.language.check.segments import check_segment
from afterglow.language.check.sources import check_owners, check_shop, check_source
from afterglow.language.check.supply import world
from afterglow.language.flow.compiler import read_flow, read_piece, sketch_flow
from afterglow.language.flow.models import FlowModel
from afterglow.language.pieces import divided, file_of, joined, pieces_in
from afterglow.language.programme import Programme
from afterglow.language.segment import read_segments
from afterglow.language.shop import read_shop, read_stages
from afterglow.language.source import Source, read_source
from afterglow.mail.sources import TEAM_MAILS
from afterglow.mail_templates import Mail, compile_mail, load_mail
from afterglow.problems import Problem, Problems
from afterglow.strict_yaml import load
from afterglow.strict_yaml.salvage import salvaged, speaks_of_a_stand_in

__all__ = ["check_files"]

_Read = TypeVar("_Read")
_FOLDERS = ("flows", "flows/sources", "flows/programmes", "flows/pieces")
_SHOP, _STAGES = "flows/shop.yaml", "flows/stages.yaml"
_OWN_NAMES = (_SHOP, _STAGES, SEGMENTS)


def check_files(files: Mapping[str, str]) -> list[Problem]:
    """Everything that is wrong in a shop's files, sorted by place; empty where they can be put into force.

    Args:
      files: text by path below the shop's folder, such as "flows/welcome.yaml" or "templates/email/welcome.mjml".
    """
    problems = set(_out_of_place(files))
    documents: tuple[Document, ...] | None = None
    try:
        documents = compile_files(files)
    except Problems as error:
        problems.update(error.problems)
    shop = _read(lambda: read_shop(files[_SHOP], _SHOP)) if _SHOP in files else None
    stages = _read(lambda: read_stages(files[_STAGES], _STAGES)) if _STAGES in files else None
    stage_names = None if stages is None else [stage.stage for stage in stages]
    segments = _read(lambda: read_segments(files[SEGMENTS], SEGMENTS)) if SEGMENTS in files else {}
    sources, broken_sources = _sources(files)
    flow_files, pieces = _flow_files(files), pieces_in(files)
    whole = {file: joined(files[file], pieces) for file in flow_files}
    flows = {file: flow for file in flow_files if (flow := _read(lambda f=file: read_flow(whole[f], f)))}  # type: ignore[misc]
    mails, mail_names = _mails(files, documents)
    programmes = [
        _read(lambda f=file: read_programme(files[f], f))  # type: ignore[misc]
        for file in _in_folder(files, "flows/programmes", ".yaml")
    ]
    all_read = None not in programmes
    loyalty = {one.name: one.rewards.keys() for one in programmes if isinstance(one, Programme)}
    around = Surroundings(
        world=world(shop, sources.values(), whole=not broken_sources),
        shop=shop,
        stages=stage_names,
        mails=mail_names,
        flows=[_name(file) for file in flow_files],
        segments=segments,
        rewards=loyalty if all_read else None,
    )
    if segments is None:
        problems.update(further_in_segments(files[SEGMENTS], SEGMENTS, around.world, files))
    for segment in (segments or {}).values():
        problems.update(check_segment(segment, around.world, files))
    if shop is not None:
        problems.update(check_shop(shop, [_name(file) for file in flow_files], around.world))
        if not broken_sources:
            problems.update(check_owners(shop, sources))
    for file, source in sources.items():
        problems.update(check_source(source, files[file], file, shop, stage_names))
    for programme in programmes:
        if isinstance(programme, Programme):
            problems.update(check_loyalty(programme, around.world))
        elif programme is not None:
            problems.update(check_referral(programme, around.world, shop, [*loyalty] if all_read else None))
    if shop is None and _SHOP in files:
        names = [_name(file) for file in flow_files]
        whole_sources = None if broken_sources else sources
        problems.update(further_in_shop(files[_SHOP], _SHOP, names, whole_sources, around.world))
    for file in _in_folder(files, "flows/sources", ".yaml"):
        if file not in sources:
            problems.update(further_in_source(files[file], file, shop, stage_names))
    for file, programme in zip(_in_folder(files, "flows/programmes", ".yaml"), programmes, strict=True):
        if programme is None:
            problems.update(further_in_programme(files[file], file, around.world, shop, None))
    for flow in flows.values():
        problems.update(check_flow(flow, around))
        problems.update(gated_in_flow(flow, mails))
    problems.update(check_circles([*flows.values()]))
    for file in flow_files:
        if file not in flows:
            problems.update(_further(whole[file], file, around))
    problems.update(check_mails(mails, flows, files, around, all_flows=len(flows) == len(flow_files)))
    return sorted(problems)


def _further(text: str, file: str, around: Surroundings) -> Iterator[Problem]:
    """What else is wrong with a flow that does not compile, as far as it can be read in spite of that."""
    own, texts = divided(text)
    document = _read(lambda: load(own, file))
    model = salvaged(document, FlowModel) if document else None
    if document is None or model is None:
        return
    read = {name: _read(lambda n=name: read_piece(texts[n], file_of(n))) for name in texts}  # type: ignore[misc]
    flow, problems = sketch_flow(document, model, read)
    for problem in (*problems, *check_flow(flow, around, whole=False)):
        if not speaks_of_a_stand_in(problem.message):
            yield problem


def _read(reader: Callable[[], _Read]) -> _Read | None:
    """What the reader reads; None where it finds problems, which compiling has told already."""
    try:
        return reader()
    except Problems:
        return None


def _name(file: str) -> str:
    return file.rpartition("/")[2].rpartition(".")[0]


def _flow_files(files: Mapping[str, str]) -> list[str]:
    return [file for file in _in_folder(files, "flows", ".yaml") if file not in _OWN_NAMES]


def _in_folder(files: Mapping[str, str], folder: str, ending: str) -> list[str]:
    return [file for file in sorted(files) if file.rpartition("/")[0] == folder and file.endswith(ending)]


def _sources(files: Mapping[str, str]) -> tuple[dict[str, Source], bool]:
    names = _in_folder(files, "flows/sources", ".yaml")
    read = {file: _read(lambda f=file: read_source(files[f], f)) for file in names}  # type: ignore[misc]
    return {file: source for file, source in read.items() if source is not None}, None in read.values()


def _mails(files: Mapping[str, str], documents: Iterable[Document] | None) -> tuple[dict[str, Mail], list[str]]:
    """The mails that can be read by name, and the names of all of them. `documents`: where all files compile."""
    if documents is not None:
        read = {one.name: load_mail(json.loads(one.body)) for one in documents if one.kind == "template"}
        return read, list(read)
    wanted = [
        f"email/{name}"
        for file in _in_folder(files, "templates/email", ".mjml")
        if not (name := _name(file)).startswith("_") or name in TEAM_MAILS
    ]
    mails: dict[str, Mail] = {}
    for name in wanted:
        compiled = _read(lambda n=name: compile_mail(n, files))  # type: ignore[misc]
        if compiled is not None:
            mails[name] = load_mail(json.loads(json.dumps(compiled)))
    return mails, wanted


def _out_of_place(files: Mapping[str, str]) -> Iterator[Problem]:
    """Files that nothing would ever read."""
    for file in sorted(files):
        folder, _, base = file.rpartition("/")
        if is_expectation(file):
            continue
        if file.endswith(".yaml") and folder not in _FOLDERS:
            message = (
                "Flows stand in flows/ itself; sources, programmes and pieces in flows/sources/, programmes/, pieces/; "
            )
            yield Problem(file, 1, 1, message + "move this file.")
        if folder == "templates/email" and file.endswith(".txt") and not base.startswith("_"):
            mail = file.removesuffix(".txt") + ".mjml"
            if mail not in files:
                yield Problem(file, 1, 1, f"This is the text part of a mail that is not there: {mail}.")
