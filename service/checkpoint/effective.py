"""Reads config.json as transformers will: with the class's defaults and every spelling of a field understood.

Builds no model and runs no code of the folder.
"""

import contextlib
import io
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def is_native(config: Mapping[str, Any]) -> bool:
    """Say whether transformers has a class of its own for the model type."""
    from transformers import CONFIG_MAPPING

    return config.get("model_type") in CONFIG_MAPPING


def effective_config(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that count; those of the file where no class of transformers reads them or it fails.

    What fails here fails when the model is loaded, and is reported there or by the checks of its cause.
    """
    if not is_native(config):
        return dict(config)
    from transformers import AutoConfig

    quiet = logging.getLogger("transformers")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            loaded = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        values: dict[str, Any] = loaded.to_dict()
    except Exception:  # a config is data of strangers: anything may be of the wrong type
        return dict(config)
    finally:
        quiet.setLevel(level)
    return values
