"""Segments: all of them, those with a face first, and who is in one."""

from typing import Final

from starlette.responses import Response

from afterglow.language.picture import FOLDER, read_picture
from db import directory, rosters
from web.pages.look import Look

#: Members on one page.
MEMBERS: Final = 100


def segments_(look: Look) -> Response:
    """Every segment with how many are in it."""
    found = rosters.counted(look.connection, look.release.catalog.segments)
    return look.page(
        "segments",
        tab="segments",
        personas=[one for one in found if one.segment.persona],
        others=[one for one in found if not one.segment.persona],
        initials=initials,
    )


def segment(look: Look) -> Response:
    """One segment: what it means, and its members by number."""
    name = look.request.path_params["name"]
    found = look.release.catalog.segments.get(name)
    if found is None:
        return look.not_found("There is no segment of this name in force.", tab="segments")
    [counted] = rosters.counted(look.connection, {name: found})
    after = look.number("after") or 0
    rows = rosters.roster(look.connection, name, after=after, limit=MEMBERS)
    customers = {row.id: row for row in directory.several(look.connection, [row.customer_id for row in rows])}
    return look.page(
        "segment",
        tab="segments",
        one=counted,
        rows=[(customers[row.customer_id], row.since) for row in rows],
        older=rows[-1].customer_id if len(rows) == MEMBERS else None,
        is_first=not after,
        initials=initials,
    )


def picture(look: Look) -> Response:
    """The picture of a segment's persona, out of the release in force."""
    found = look.release.catalog.segments.get(look.request.path_params["name"])
    name = found.persona.picture if found is not None and found.persona else None
    text = look.release.catalog.pictures.get(name) if name else None
    if text is None:
        return look.not_found("There is no picture here.", tab="segments")
    media, body = read_picture(text, f"{FOLDER}{name}")
    return Response(body, media_type=media, headers={"cache-control": "private, max-age=300"})


def initials(name: str) -> str:
    """Up to two letters that stand for a name."""
    words = [word for word in name.split() if word[0].isalnum()]
    return "".join(word[0] for word in [*words[:1], *words[1:][-1:]]).upper() or "?"
