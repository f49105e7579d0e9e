"""Pictures of personas: small files of the shop's folder `pictures/`, put into force with everything else.

They are texts in Base64 here, as all files are texts. What kind of picture it is its first bytes say, not its name, so
that no page is ever asked to show something else.
"""

import base64
import binascii
from functools import lru_cache
from typing import Final

from afterglow.problems import Problem, Problems

#: Where they stand, below the shop's folder.
FOLDER: Final = "pictures/"
#: A face on a page needs no more.
BYTES_MAX: Final = 128 * 1024


@lru_cache(maxsize=256)
def read_picture(text: str, file: str) -> tuple[str, bytes]:
    """The media type of a picture and its bytes.

    Raises:
      Problems: it is too large, or no PNG, JPEG or WebP.
    """
    try:
        body = base64.b64decode(text, validate=True)
    except binascii.Error:
        body = b""
    if len(body) > BYTES_MAX:
        raise Problems([Problem(file, 1, 1, f"A picture has at most {BYTES_MAX // 1024} KB; make this one smaller.")])
    media = _media_type(body)
    if media is None:
        raise Problems([Problem(file, 1, 1, "This is no picture that pages can show: save it as PNG, JPEG or WebP.")])
    return media, body


def as_text(body: bytes) -> str:
    """The text that stands for a picture's bytes."""
    return base64.b64encode(body).decode("ascii")


def _media_type(body: bytes) -> str | None:
    if body.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if body.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    return "image/webp" if body[:4] == b"RIFF" and body[8:12] == b"WEBP" else None
