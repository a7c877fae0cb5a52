"""Loads a folder in the official layout, and takes nothing less and nothing else than all tensors.

Knows no adapter and no processor. What transformers would start at random, skip or warn about is refused here.
"""

import json
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open

from service.domain.minicpmv import OTHER_SENSES
from service.engine.families.family import LoadOptions
from service.engine.families.minicpmv.configuration import MiniCPMVConfig
from service.engine.families.minicpmv.modeling import MiniCPMV, register

SHOWN = 3
"""Tensors of a kind that an error names."""


def load_minicpmv(folder: Path, options: LoadOptions) -> tuple[Any, dict[str, Any]]:
    """Return the model in evaluation mode and transformers' loading information.

    Raises:
        CheckpointUnsupported: config.json does not say what to build, or another version.
        ValueError: Tensors are missing, too many, or of another shape than config.json says.
    """
    register()
    config = MiniCPMVConfig.from_pretrained(folder, local_files_only=True)
    names = tensor_names(folder)
    if config.drop_vision_last_layer is None:
        config.drop_vision_last_layer = _lacks_last_layer(config, names)
    if skipped := [name for name in names if any(re.search(one, name) for one in OTHER_SENSES)]:
        warnings.warn(
            f"{len(skipped)} of {len(names)} tensors are for hearing and speaking and are left out, "
            f"first {skipped[0]}; this service reads pictures and text",
            stacklevel=2,
        )
    keywords = options.keywords() | {"trust_remote_code": False}
    model, info = MiniCPMV.from_pretrained(folder, config=config, ignore_mismatched_sizes=True, **keywords)
    _refuse_differences(config, model, info)
    return model.eval(), info


def tensor_names(folder: Path) -> tuple[str, ...]:
    """Return the names of all tensors of a folder, sorted: from the one file's header, or else from the index.

    In this order as transformers loads them; an index can be left over from shards that there were.

    Raises:
        OSError: There is neither.
        ValueError: The index lists no tensors.
    """
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file() or not index.is_file():
        with safe_open(whole, framework="pt") as file:
            return tuple(sorted(file.keys()))
    listed = json.loads(index.read_text(encoding="utf-8"))
    places = listed.get("weight_map") if isinstance(listed, dict) else None
    if not isinstance(places, dict):
        raise ValueError(f"{index.name} has no weight_map, so no tensor can be found; copy it again")  # noqa: TRY004
    return tuple(sorted(places))


def _lacks_last_layer(config: MiniCPMVConfig, names: Iterable[str]) -> bool:
    """Say whether the tensors lack the tower's last layer, which config.json does not say."""
    last = f"vpm.encoder.layers.{config.vision_config.num_hidden_layers - 1}."
    return not any(name.startswith(last) for name in names)


def _refuse_differences(config: MiniCPMVConfig, model: Any, info: Mapping[str, Any]) -> None:
    missing, unknown = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    misshapen = sorted(info["mismatched_keys"])
    if not (missing or unknown or misshapen):
        return
    needed = len(model.state_dict())
    shapes = [f"{name} has {tuple(found)} for {tuple(wanted)}" for name, found, wanted in misshapen]
    kinds = (("missing", missing), ("unknown", unknown), ("of another shape", shapes))
    listed = "; ".join(f"{len(some)} {kind}: {_some(some)}" for kind, some in kinds if some)
    raise ValueError(
        f"MiniCPM-V {config.version} needs {needed} tensors by its config.json, and {needed - len(missing)} of them "
        f"are there. {listed}. Take config.json and weights from one checkpoint, and all of its shards"
        f"{_hint(missing, unknown)}"
    )


def _hint(missing: list[str], unknown: list[str]) -> str:
    is_tower = any(name.startswith("vpm.encoder.layers.") for name in (*missing, *unknown))
    return "; drop_vision_last_layer says whether the tower's last layer is there" if is_tower else ""


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
