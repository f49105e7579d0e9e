"""`source test`: the payloads that are kept beside a source file, held to what they must become."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from afterglow.captured import EXPECTED, as_yaml, differences, read_captured, told
from afterglow.language.catalog import Catalog
from afterglow.mapping.trial import tried
from workers.files import BYTES_MAX, read_text


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One payload and how it fared."""

    #: Below the shop's folder.
    file: str
    sentence: str
    differs: bool
    accepted: bool = False
    #: Lines of a diff.
    diff: tuple[str, ...] = ()


def proved(folder: Path, catalog: Catalog, name: str, *, now: datetime, accept: bool) -> Iterator[Case]:
    """Hold each payload of a source to its expectation, in the order of their names.

    Args:
      folder: the shop's.
      accept: write what happens now where it differs from what is expected, or nothing is.

    Raises:
      Problems: an expectation is not strict YAML.
      CapturedError: a payload cannot be used.
    """
    for payload in sorted((folder / "flows" / "sources" / name).glob("*.json")):
        yield _proved(folder, payload, catalog, name, now=now, accept=accept)


def _proved(folder: Path, payload: Path, catalog: Catalog, name: str, *, now: datetime, accept: bool) -> Case:
    file = payload.relative_to(folder).as_posix()
    captured = read_captured(payload.read_bytes()[:BYTES_MAX], file)
    found = told(
        tried(
            catalog.sources[name],
            captured.headers,
            captured.body,
            received_at=now,
            known_events=catalog.events,
            known_stages=catalog.stage_names,
        )
    )
    expected = payload.with_name(payload.stem + EXPECTED)
    if expected.exists():
        place = expected.relative_to(folder).as_posix()
        diff = differences(read_text(expected, place), place, found)
        if not diff:
            return Case(file=file, sentence="as expected", differs=False)
        sentence = "does not become what is expected"
    else:
        diff, sentence = [], f"nothing is expected of it yet; --accept writes {expected.name}"
    if not accept:
        return Case(file=file, sentence=sentence, differs=True, diff=tuple(diff))
    expected.write_text(
        f"# What {file} must become; `afterglow source test` holds it to this.\n{as_yaml(found)}", "utf-8"
    )
    return Case(file=file, sentence=f"{expected.name} is written", differs=False, accepted=True, diff=tuple(diff))
