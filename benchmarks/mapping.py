"""Dividing and mapping a HubSpot request of a hundred elements, beside only reading its JSON; one core."""

import gc
import itertools
import json
from contextlib import suppress
from datetime import UTC, datetime
from statistics import median
from time import perf_counter
from typing import Any, Final

import orjson

from afterglow import ROOT
from afterglow.language.source import read_source
from afterglow.mapping import Unmappable, elements, map_element
from benchmarks import rig

ELEMENTS: Final = 100
ROUNDS: Final = 200


def batch() -> bytes:
    """A request like those of HubSpot, which sends at most a hundred changes at once, made of the documented ones."""
    files = sorted((ROOT / "tests" / "payloads" / "hubspot").glob("*.json"))
    changes = [one for file in files for one in json.loads(file.read_text())]
    chosen = itertools.islice(itertools.cycle(changes), ELEMENTS)
    return orjson.dumps([{**change, "eventId": 1_000_000_000 + n} for n, change in enumerate(chosen)])


def run() -> dict[str, Any]:
    """Milliseconds for a request: the least and the median."""
    source = read_source((ROOT / "flows/sources/hubspot.yaml").read_text(), "flows/sources/hubspot.yaml")
    body, received_at = batch(), datetime.now(UTC)
    took: dict[str, list[float]] = {"reading": [], "dividing": [], "mapping": []}
    gc.freeze()
    for _ in range(ROUNDS):
        began = perf_counter()
        orjson.loads(body)
        read = perf_counter()
        parts = elements(source, {}, body)
        divided = perf_counter()
        for part in parts:
            with suppress(Unmappable):  # parked, as some of the odd ones are
                map_element(source, {}, part.body, received_at=received_at)
        mapped = perf_counter()
        took["reading"].append(read - began)
        took["dividing"].append(divided - read)
        took["mapping"].append(mapped - divided)
    return {
        "elements": len(parts),
        "bytes": len(body),
        **{
            f"{name}_ms": {"least": round(min(times) * 1000, 2), "median": round(median(times) * 1000, 2)}
            for name, times in took.items()
        },
    }


if __name__ == "__main__":
    rig.show(run())
