"""MiniCPM-V 2.6, 4.0 and 4.5: checkpoints that ship as remote code, built here from transformers' own modules.

Runs none of their code, trusted or not.
"""

from pathlib import Path
from typing import Any

from service.domain.minicpmv import ENDS, MODEL_TYPE
from service.engine.families.family import Encoder, Family, LoadOptions
from service.engine.families.minicpmv.pictures import BoundPictures
from service.engine.families.minicpmv.versions import refuse_unsupported, version_of


class MiniCPMVFamily(Family):
    """`model_type` minicpmv of one version.

    Args:
        version: A key of `LANGUAGES`.
    """

    accepts_pictures = True
    pictures = BoundPictures()

    def __init__(self, version: str) -> None:
        self.version = version
        self.stop_tokens = ENDS[version]
        self.name = f"minicpm-v-{version}"

    def matches(self, config: dict[str, Any]) -> bool:
        """Say whether the config is of this version.

        Raises:
            CheckpointUnsupported: It is a minicpmv that no version of this family is.
        """
        if config.get("model_type") != MODEL_TYPE:
            return False
        refuse_unsupported(config)
        return version_of(config) == self.version

    def load_model(self, folder: Path, options: LoadOptions) -> tuple[Any, dict[str, Any]]:
        """Load every tensor, and no other."""
        from service.engine.families.minicpmv.loading import load_minicpmv

        return load_minicpmv(folder, options)

    def load_encoder(self, folder: Path, control_tokens: frozenset[str], options: LoadOptions, model: Any) -> Encoder:
        """Load the tokenizer and the picture settings."""
        from service.engine.families.minicpmv.encoder import load_encoder

        return load_encoder(folder, control_tokens, model)
