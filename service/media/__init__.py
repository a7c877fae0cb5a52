"""Bytes from a client become bounded pictures.

Knows no route, no model and no socket: nothing is fetched here.

    references    what a client writes for a picture -> bytes
    formats       the five formats served, and the names of those that are not
    containers    a file's own words: size, orientation; metadata is dropped before a decoder sees it
    orientation   EXIF orientation -> an upright picture
    decoding      bytes -> RGB picture; the one boundary to Pillow
    limits        how large a picture may be
"""
