"""Merges one adapter into its base in float32, writes the result as a folder, and proves it.

Does not judge the adapter, and knows no command line.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from service.engine.adapters import Mounted, MountFailed, merge, mount
from service.engine.families.family import Family, LoadOptions
from service.engine.families.registry import find_family
from service.engine.loading import DTYPES, LOADING_ERRORS, cast, reason_of, stored_dtype
from service.engine.probing import Probe, largest_difference
from service.errors import CheckpointUnreadable
from service.overlay import TOKENIZER_FILES, overlay

EXACT = 1e-3
"""Share of the largest logit by which two float32 computations of the same thing may differ."""
COPIED_SUFFIXES = (".json", ".jinja", ".txt", ".model", ".tiktoken", ".py")
NOT_COPIED = ("config.json", "merge.json", "repair.json", "checkpoint.lock.json")
WRITTEN = "merge.json"


@dataclass(frozen=True, slots=True)
class Proof:
    """What a merge was measured by, on one fixed question.

    Attributes:
        scale: Largest logit of the mounted adapter.
        merged_difference: Largest difference of logits, merged against mounted, both in float32.
        saved_difference: The same, saved folder against merged model after rounding.
        rounding_difference: The same, saved folder against mounted adapter: what the stored type costs.
        is_same_answer: The likeliest token is the same at every place of the question.
    """

    scale: float
    merged_difference: float
    saved_difference: float
    rounding_difference: float
    is_same_answer: bool

    @property
    def is_proved(self) -> bool:
        """Merged equals mounted, and the folder holds what was merged."""
        limit = EXACT * max(self.scale, 1.0)
        return self.merged_difference <= limit and self.saved_difference <= limit


def merge_folders(base: Path, adapter: Path, output: Path, dtype: str) -> Proof:
    """Write `base` with `adapter` merged into a new folder.

    Args:
        base: The base's folder.
        adapter: The adapter's folder.
        output: A folder that exists and is empty.
        dtype: A key of DTYPES, or `auto` for the base's own type.

    Raises:
        CheckpointUnreadable: One of the folders cannot be loaded, or the adapter does not fit.
    """
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    family = find_family(config, is_code_trusted=False)
    options = LoadOptions(torch.device("cpu"), torch.float32, None, is_code_trusted=False)
    kept = stored_dtype(config) if dtype == "auto" else DTYPES[dtype]
    try:
        model, _ = family.load_model(base, options)
        probe = Probe(family, family.load_encoder(base, frozenset(), options, model), options.device)
        mounted_logits = probe.logits(_whole(mount(model, adapter)))
        merged = _whole(merge(model, adapter))
    except MountFailed as error:
        raise CheckpointUnreadable(f"the adapter cannot be merged: {error}") from error
    except LOADING_ERRORS as error:
        raise CheckpointUnreadable(f"{base.name} cannot be loaded: {reason_of(error)}") from error
    merged_logits = probe.logits(merged)
    _save(merged, kept, output)
    _copy_files(base, adapter, output)
    rounded_logits = probe.logits(merged.float())
    saved_logits = _reload(family, options, output, probe)
    return Proof(
        scale=float(mounted_logits.abs().max()),
        merged_difference=largest_difference(mounted_logits, merged_logits),
        saved_difference=largest_difference(rounded_logits, saved_logits),
        rounding_difference=largest_difference(mounted_logits, saved_logits),
        is_same_answer=bool((mounted_logits.argmax(-1) == saved_logits.argmax(-1)).all()),
    )


def write_record(output: Path, proof: Proof, sources: Mapping[str, tuple[str, str]], dtype: str) -> None:
    """Write `merge.json`: from what, with what, and how well.

    Args:
        output: The merged folder.
        proof: How well.
        sources: Name and fingerprint of `base` and `adapter`.
        dtype: What was asked for.
    """
    versions = {name: version(name) for name in ("minicpm-service", "transformers", "peft", "torch")}
    parts = {part: {"name": name, "fingerprint": digest} for part, (name, digest) in sources.items()}
    document = {"from": parts, "dtype": dtype, "versions": versions, "proof": asdict(proof)}
    (output / WRITTEN).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _whole(mounted: Mounted) -> Any:
    if mounted.missing_keys or mounted.unexpected_keys:
        lost = (*mounted.unexpected_keys, *mounted.missing_keys)
        raise MountFailed(f"{len(lost)} tensor(s) were not applied, first {lost[0]}")
    return mounted.model


def _save(model: Any, dtype: torch.dtype, output: Path) -> None:
    cast(model, dtype)
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    is_tied = head is not None and head.weight.data_ptr() == embedding.weight.data_ptr()
    for part in (model.config, model.config.get_text_config()):
        part.tie_word_embeddings = is_tied
        part.vocab_size = int(embedding.weight.shape[0]) if hasattr(part, "vocab_size") else None
        part.dtype = dtype
    model.save_pretrained(output)


def _copy_files(base: Path, adapter: Path, output: Path) -> None:
    """Copy what belongs to a model beside its weights; the adapter's tokenizer and template win."""
    for path in base.iterdir():
        is_wanted = path.suffix in COPIED_SUFFIXES and path.name not in NOT_COPIED and "safetensors" not in path.name
        if path.is_file() and is_wanted:
            shutil.copyfile(path, output / path.name)
    with overlay(base, adapter) as folder:
        for name in TOKENIZER_FILES if folder else ():
            (output / name).unlink(missing_ok=True)
            if folder and (folder / name).is_file():
                shutil.copyfile(folder / name, output / name)


def _reload(family: Family, options: LoadOptions, folder: Path, probe: Probe) -> torch.Tensor:
    model, _ = family.load_model(folder, options)
    return probe.logits(model)
