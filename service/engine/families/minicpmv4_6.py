"""MiniCPM-V 4.6: SigLIP tower with a window merger, Qwen3.5 language model with Gated DeltaNet layers.

Native in transformers; nothing beyond its processor is needed.
"""

from service.engine.families.image_text import ImageTextFamily
from service.engine.families.pictures import SlicedPictures


class MiniCPMV46(ImageTextFamily):
    """`model_type` minicpmv4_6."""

    name = "minicpm-v-4.6"
    model_types = frozenset({"minicpmv4_6"})
    pictures = SlicedPictures()
