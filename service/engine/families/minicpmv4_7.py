"""MiniCPM-V 4.7: as 4.6, with positions of pictures on a canvas (M-RoPE).

Native in transformers; nothing beyond its processor is needed.
"""

from service.engine.families.image_text import ImageTextFamily
from service.engine.families.pictures import SlicedPictures


class MiniCPMV47(ImageTextFamily):
    """`model_type` minicpmv4_7."""

    name = "minicpm-v-4.7"
    model_types = frozenset({"minicpmv4_7"})
    pictures = SlicedPictures()
