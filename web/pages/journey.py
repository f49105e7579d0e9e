"""The journey: the stages as a loop, the people in each, and the flows that hang beneath."""

from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from afterglow.pictures import STYLE, journey_picture
from db import occupancy, pictures
from web.pages.look import Look, in_each_width


def journey(look: Look) -> Response:
    """The journey map of the files in force."""
    catalog = look.release.catalog
    stages, standing = pictures.stages(look.connection), occupancy.occupancy(look.connection)
    figures = pictures.on_journey(standing, stages, catalog.flows, linked=True)
    return look.page(
        "journey",
        tab="journey",
        pictures=in_each_width(
            lambda width: journey_picture(
                catalog, figures, width=width, alone=False, href=lambda name: f"/flows/{quote(name)}"
            )
        ),
        strays={name: count for name, count in sorted(stages.people.items()) if name not in catalog.stage_names},
        stages=stages,
        standing=standing,
    )


def stylesheet(request: Request) -> Response:
    """How pictures look on pages."""
    return Response(STYLE, media_type="text/css", headers={"cache-control": "public, max-age=300"})
