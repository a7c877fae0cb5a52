"""MiniCPM-OCR: the small document reader of the family.

Native in transformers; nothing beyond its processor is needed.
"""

from service.engine.families.image_text import ImageTextFamily
from service.engine.families.pictures import SlicedPictures


class MiniCPMOcr(ImageTextFamily):
    """`model_type` minicpm_ocr."""

    name = "minicpm-ocr"
    model_types = frozenset({"minicpm_ocr"})
    pictures = SlicedPictures()
