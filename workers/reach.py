"""Whether the public address leads here: asked from this machine, through whatever stands in between."""

from typing import Final

import httpx

from db.doctor import Finding
from db.settings import Settings

#: How long the address may take to answer, in seconds.
ANSWER_S_MAX: Final = 3.0


def examine_public_address(settings: Settings) -> list[Finding]:
    """What is wrong with AFTERGLOW_PUBLIC_URL, seen from here; nothing where it means this machine."""
    if not settings.is_public:
        return []
    url = f"{settings.public_url}/health"
    try:
        answer = httpx.get(url, timeout=ANSWER_S_MAX)
        alive = answer.status_code == 200 and answer.json() == {"alive": True}
        seen = "" if alive else f"answers {answer.status_code}, and not as we do"
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        seen = f"cannot be reached from here ({type(error).__name__})"
    except ValueError:
        seen = "answers something else than we do"
    if not seen:
        return []
    return [
        Finding(
            check="public address",
            severity="warning",
            what=f"address {url} {seen}",
            count=1,
            examples=(),
            what_to_do="See that the web process runs, and that the proxy hands AFTERGLOW_PUBLIC_URL to "
            "AFTERGLOW_PUBLIC_BIND with its path as it is.",
        )
    ]
