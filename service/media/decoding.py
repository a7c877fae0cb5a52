"""Bytes become an RGB picture, or one `InvalidPicture`; the only boundary to Pillow's decoders.

Does not know where the bytes came from. Reads and changes no global, so that any number of threads may call.
"""

from io import BytesIO

from PIL import (
    Image,
    WebPImagePlugin,  # noqa: F401  registers itself; otherwise Pillow imports every plugin it has to find it
)

from service.errors import InvalidPicture
from service.media.containers import Container, ContainerError, read_container
from service.media.formats import PictureFormat, foreign_name, served_format
from service.media.limits import PictureLimits
from service.media.orientation import read_orientation, upright

_FORMAT_NAMES = ", ".join(PictureFormat)


def decode_picture(data: bytes, index: int, limits: PictureLimits) -> Image.Image:
    """Decode one picture: the first frame, upright, in 8-bit RGB, without metadata.

    Transparency is composited on white, which is what a person sees on a page. Dropping the alpha channel,
    as the official processors of MiniCPM do, would show the arbitrary colours under transparent pixels.
    Colour profiles are ignored, as those processors ignore them.

    Args:
        data: A whole PNG, JPEG, WEBP, GIF or BMP file.
        index: Which picture of the request it is, for the error.
        limits: Checked against the header, before any pixel is decoded.

    Raises:
        InvalidPicture: The file is empty, over a limit, of another format, cut off or damaged.
    """
    format_ = _recognised(data, index, limits)
    try:
        container = read_container(data, format_)
    except ContainerError as error:
        raise InvalidPicture(f"picture {index} ({format_}) {error}") from error
    _check_size(container, index, limits)
    try:
        return _decode(container, format_)
    except MemoryError:
        raise  # ours to answer for, not the client's
    except Exception as error:
        # Decoders raise whatever their parsing ran into; the texts hold addresses and bytes of the file.
        raise InvalidPicture(f"picture {index} ({format_}) is damaged or cut off") from error


def _recognised(data: bytes, index: int, limits: PictureLimits) -> PictureFormat:
    if not data:
        raise InvalidPicture(f"picture {index} is empty: it has 0 bytes")
    if len(data) > limits.max_bytes:
        raise InvalidPicture(
            f"picture {index} is {len(data)} bytes; the limit is {limits.max_bytes}; send a smaller picture"
        )
    format_ = served_format(data)
    if format_ is None:
        name = foreign_name(data)
        what = f"is {name}" if name else "is of no known picture format"
        raise InvalidPicture(f"picture {index} {what}; send one of {_FORMAT_NAMES}")
    return format_


def _check_size(container: Container, index: int, limits: PictureLimits) -> None:
    width, height = container.width, container.height
    if min(width, height) < 1:
        raise InvalidPicture(f"picture {index} has no pixels: its header says {width} x {height}")
    if width * height > limits.max_pixels:
        raise InvalidPicture(
            f"picture {index} is {width} x {height} = {width * height} pixels; "
            f"the limit is {limits.max_pixels} (MINICPM_MAX_PICTURE_PIXELS); send it scaled down"
        )
    if max(width, height) > limits.max_aspect_ratio * min(width, height):
        raise InvalidPicture(
            f"picture {index} is {width} x {height}; one side may be at most "
            f"{limits.max_aspect_ratio:g} times the other; crop it or cut it into several pictures"
        )


def _decode(container: Container, format_: PictureFormat) -> Image.Image:
    with Image.open(BytesIO(container.pixel_data), formats=(format_,)) as opened:
        # Two readers of one header: pixels are decoded only if Pillow read the size that was checked.
        if opened.size != (container.width, container.height):
            raise ValueError("the header states two sizes")
        picture = upright(_to_rgb(opened), read_orientation(container.exif))
    picture.info.clear()
    return picture


def _to_rgb(opened: Image.Image) -> Image.Image:
    opened.load()
    if opened.mode == "I;16":
        # Convert would clip at 255; the upper byte of each little-endian pair is the scaled value. A
        # colour key, which next to no 16-bit file has, is not applied.
        return Image.frombytes("L", opened.size, opened.tobytes()[1::2]).convert("RGB")
    if not opened.has_transparency_data:
        return opened.convert("RGB")
    layered = opened.convert("RGBA")
    page = Image.new("RGB", opened.size, "white")
    page.paste(layered, mask=layered.getchannel("A"))
    return page
