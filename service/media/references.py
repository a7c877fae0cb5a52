"""What a client writes for a picture, a data URL or bare base64, becomes bytes.

Does not know what the bytes are, and fetches nothing. No part of a reference is repeated in an error except
a scheme or a media type: a URL may carry credentials.
"""

import base64
import binascii
import re

from service.errors import InvalidPicture
from service.media.limits import PictureLimits

_WAY_OUT = "send a data URL (data:image/png;base64,...), bare base64 or a file part"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{1,30}):")
"""Two letters at least; one is the drive of a Windows path."""
_MARKS_OF_A_PATH = re.compile(r"[.:~\\]")
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/=]")
_JPEG_IN_BASE64 = "/9j/"
_MAX_HEADER_CHARACTERS = 256
_MAX_ECHO_CHARACTERS = 60


def read_reference(reference: str, index: int, limits: PictureLimits) -> bytes:
    """Return the bytes that a picture reference holds.

    White space in base64 is tolerated, as is missing padding. The media type of a data URL is not trusted:
    the bytes decide what they are.

    Args:
        reference: `data:image/png;base64,...`, the same without media type, or bare base64.
        index: Which picture of the request it is, for the error.
        limits: `max_bytes` bounds the text before it is decoded.

    Raises:
        InvalidPicture: It is a URL or a path, too large, or not base64.
    """
    # Twice leaves room for base64 (4/3) and line breaks; the exact bound follows once those are gone.
    if len(reference) > 2 * limits.max_bytes + _MAX_HEADER_CHARACTERS:
        raise InvalidPicture(
            f"picture {index} is {len(reference)} characters long; "
            f"the limit is {limits.max_bytes} bytes once decoded; send a smaller picture"
        )
    text = reference.strip()
    if not text:
        raise InvalidPicture(f"picture {index} is empty; {_WAY_OUT}")
    if text[:5].lower() == "data:":
        payload = _data_url_payload(text, index)
    else:
        _refuse_addresses(text, index)
        payload = text
    return _decode_base64("".join(payload.split()), index, limits)


def _data_url_payload(url: str, index: int) -> str:
    comma = url.find(",", 0, _MAX_HEADER_CHARACTERS)
    if comma < 0:
        raise InvalidPicture(
            f"picture {index} is a data URL without a comma in its first "
            f"{_MAX_HEADER_CHARACTERS} characters; write data:image/png;base64,..."
        )
    media_type, *parameters = (part.strip().lower() for part in url[len("data:") : comma].split(";"))
    if "base64" not in parameters:
        raise InvalidPicture(
            f"picture {index} is a data URL in percent-encoding; only base64 is read; write data:image/png;base64,..."
        )
    if media_type and not media_type.startswith("image/") and media_type != "application/octet-stream":
        raise InvalidPicture(
            f"picture {index} is a data URL of media type {_excerpt(media_type)}; only image/* is read"
        )
    return url[comma + 1 :]


def _refuse_addresses(text: str, index: int) -> None:
    if scheme := _SCHEME.match(text):
        raise InvalidPicture(
            f"picture {index} is a {scheme[1].lower()}: URL; fetching pictures is not supported; {_WAY_OUT}"
        )
    # Base64 has a slash; of the formats served only a JPEG begins with one.
    is_absolute = text.startswith("/") and not text.startswith(_JPEG_IN_BASE64)
    if is_absolute or _MARKS_OF_A_PATH.search(text, 0, _MAX_HEADER_CHARACTERS):
        raise InvalidPicture(f"picture {index} looks like a file path or a host name; no file is read here; {_WAY_OUT}")


def _decode_base64(payload: str, index: int, limits: PictureLimits) -> bytes:
    """Decode base64 that has no white space left, after bounding what it will decode to."""
    if wrong := _NOT_BASE64.search(payload):
        hint = "; do not percent-encode it" if wrong[0] == "%" else ""
        raise InvalidPicture(
            f"picture {index} is not base64: character {_excerpt(wrong[0])} at position {wrong.start()}{hint}"
        )
    digits = payload.rstrip("=")
    if not digits:
        raise InvalidPicture(f"picture {index} is empty; {_WAY_OUT}")
    num_bytes = len(digits) * 3 // 4
    if num_bytes > limits.max_bytes:
        raise InvalidPicture(
            f"picture {index} is {num_bytes} bytes; the limit is {limits.max_bytes}; send a smaller picture"
        )
    try:
        return base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
    except binascii.Error as error:
        raise InvalidPicture(f"picture {index} is not base64: it is cut off or wrongly padded") from error


def _excerpt(text: str) -> str:
    return ascii(text)[:_MAX_ECHO_CHARACTERS]
