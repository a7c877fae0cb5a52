"""EXIF orientation: which way up a picture is meant to be seen.

Does not know where a file keeps its EXIF. Only this one tag is read: Pillow's reader of whole EXIF blocks
warns through the process-wide `warnings` module, which threads cannot silence for themselves.
"""

import struct
from collections.abc import Mapping

from PIL.Image import Image, Transpose

_ORIENTATION_TAG = 0x0112
_SHORT = 3
_BYTE_ORDERS: Mapping[bytes, str] = {b"II*\0": "<", b"MM\0*": ">"}
_TURNS: Mapping[int, Transpose] = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}


def read_orientation(exif: bytes) -> int:
    """Return the orientation, 1 to 8; broken or absent EXIF says 1, upright.

    Args:
        exif: A TIFF structure, with or without the `Exif` prefix of JPEG.
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order = _BYTE_ORDERS.get(tiff[:4])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (num_entries,) = struct.unpack_from(f"{order}H", tiff, directory)
        for entry in range(num_entries):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", tiff, directory + 2 + 12 * entry)
            if tag == _ORIENTATION_TAG:
                return value if kind == _SHORT and 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def upright(picture: Image, orientation: int) -> Image:
    """Return the picture as it is meant to be seen; the same object if it already is."""
    turn = _TURNS.get(orientation)
    return picture if turn is None else picture.transpose(turn)
