"""Reads the vectors that the official code gave, and what they were computed from; see `tests/golden/minicpmv`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

GOLDEN = Path(__file__).parents[2] / "golden" / "minicpmv"
VERSIONS = ("2.6", "4.0", "4.5")
CASES = [
    (version, path.stem.removeprefix("case_"))
    for version in VERSIONS
    for path in sorted((GOLDEN / version).glob("case_*.npz"))
]
ADAPTED = [
    (version, path.stem.removeprefix("lora_case_"))
    for version in VERSIONS
    for path in sorted((GOLDEN / version).glob("lora_case_*.npz"))
]


def vectors(version: str, name: str) -> dict[str, np.ndarray[Any, Any]]:
    with np.load(GOLDEN / version / f"{name}.npz") as file:
        return dict(file)


def inputs(case: dict[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
    """The tensors of one conversation, as the encoder gives them."""
    ids = torch.from_numpy(case["in.input_ids"]).long()
    tensors: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if "in.tgt_sizes" not in case:
        return tensors
    slices = [torch.from_numpy(case[f"in.pixel_values.{index}"]) for index in range(len(case["in.tgt_sizes"]))]
    tensors |= {
        "pixel_values": torch.cat(slices, dim=2)[None],
        "target_sizes": torch.from_numpy(case["in.tgt_sizes"]),
        "image_bound": torch.from_numpy(case["in.image_bound"]),
    }
    lengths = case.get("in.temporal_group_lens")
    if lengths is not None and lengths.max() > 1:
        pieces = np.split(case["in.temporal_ids_flat"], np.cumsum(lengths)[:-1])
        tensors["temporal_ids"] = [piece.tolist() for piece in pieces]
    return tensors


def valid(padded: np.ndarray[Any, Any], sizes: np.ndarray[Any, Any]) -> torch.Tensor:
    """The rows of a padded batch that are patches, one after another."""
    rows = [torch.from_numpy(one[: height * width]) for one, (height, width) in zip(padded, sizes, strict=True)]
    return torch.cat(rows)


def generated(version: str) -> tuple[dict[str, Any], list[list[int]]]:
    """The padded batch of `generate_batch.npz` with its pictures, and the new tokens.

    The pictures are those of the cases of the same names; 4.0 was given the same ones as 2.6.
    """
    batch = vectors(version, "generate_batch")
    pixels, sizes, bounds = [], [], []
    for name, pad in zip(batch["in.order"], batch["in.pad_lengths"], strict=True):
        of = version if (GOLDEN / version / f"case_{name}.npz").exists() else "2.6"
        one = inputs(vectors(of, f"case_{name}"))
        bounds.append(one.get("image_bound", torch.zeros(0, 2, dtype=torch.int64)) + int(pad))
        if "pixel_values" in one:
            pixels.append(one["pixel_values"])
            sizes.append(one["target_sizes"])
    tensors = {
        "input_ids": torch.from_numpy(batch["in.input_ids"]).long(),
        "attention_mask": torch.from_numpy(batch["in.attention_mask"]).long(),
        "pixel_values": torch.cat(pixels, dim=3),
        "target_sizes": torch.cat(sizes),
        "image_bound": bounds,
    }
    return tensors, batch["out.new_tokens"].tolist()


def stop_ids(version: str) -> list[int]:
    found: list[int] = json.loads((GOLDEN / version / "generate.json").read_text())["eos"]
    return found
