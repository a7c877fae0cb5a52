"""Writes random MiniCPM-V 4.6 checkpoints whose answers never end and decode to text token by token.

Tokenizer, template and processor are the demo's. Rows of tokens that are no text of their own are short, and rows
without a token zero, as padding is in real checkpoints: their logits are far below the largest of the others, so no
server ever generates an end, a picture token, half a character or an id without text, and every answer has as many
tokens as were asked for.
"""

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from benchmarks.serving.material import text_ids
from benchmarks.serving.shapes import CONTEXT_TOKENS, Shape
from service.demo import demo_root

RECIPE = 1
"""Raise it when this file writes other bytes: folders carry it in their names."""
PATCH_PIXELS = 14
SEED = 0
SILENT = 0.1
"""Length of a row that must not win, as a share of the others: the audit takes it for trained, as it takes those."""
TOKENIZER_FILES = ("tokenizer.json", "chat_template.jinja")


def checkpoint(root: Path, name: str, shape: Shape) -> Path:
    """Return the folder of a shape's checkpoint, written now if it is not there yet.

    Args:
        root: Where folders are kept between runs.
        name: The shape's, for the folder's name.
        shape: What to write.
    """
    recipe = json.dumps([RECIPE, SEED, CONTEXT_TOKENS, asdict(shape.text), asdict(shape.vision)])
    folder = root / f"{name}-{hashlib.sha256(recipe.encode()).hexdigest()[:8]}"
    if not (folder / "model.safetensors").exists() and not (folder / "model.safetensors.index.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        unfinished = folder.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        _write(unfinished, shape)
        unfinished.rename(folder)
    return folder


def _write(folder: Path, shape: Shape) -> None:
    import torch
    from transformers import AutoModelForImageTextToText, GenerationConfig, MiniCPMV4_6Config

    source = demo_root() / "base"
    for file in TOKENIZER_FILES:
        shutil.copyfile(source / file, folder / file)
    _copy_edited(source / "tokenizer_config.json", folder, lambda known: known | {"model_max_length": CONTEXT_TOKENS})
    _copy_edited(source / "processor_config.json", folder, lambda known: _with_geometry(known, shape))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ends = [tokenizer.token_to_id(token) for token in ("<|endoftext|>", "<|im_end|>")]
    config = MiniCPMV4_6Config(**_config(shape, tokenizer))
    torch.manual_seed(SEED)
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16)
    loudness = torch.zeros(shape.text.rows, 1)
    loudness[: tokenizer.get_vocab_size()] = SILENT
    loudness[text_ids(tokenizer)] = 1
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(loudness)
    model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=ends[0], do_sample=False)
    model.save_pretrained(folder)


def _copy_edited(path: Path, folder: Path, edit: Any) -> None:
    document = edit(json.loads(path.read_text(encoding="utf-8")))
    (folder / path.name).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _with_geometry(known: dict[str, Any], shape: Shape) -> dict[str, Any]:
    geometry = {
        "scale_resolution": shape.vision.resolution,
        "patch_size": PATCH_PIXELS,
        "max_slice_nums": shape.vision.slices,
        "downsample_mode": "16x",
    }
    return {key: value | geometry if isinstance(value, dict) else value for key, value in known.items()}


def _config(shape: Shape, tokenizer: Tokenizer) -> dict[str, Any]:
    text, vision = shape.text, shape.vision
    half = text.head_size // 8  # a quarter of a head is rotated, half of that are frequencies: time, height, width
    sections = [half - 2 * (half // 3), half // 3, half // 3]
    return {
        "text_config": {
            "model_type": "qwen3_5_text",
            "vocab_size": text.rows,
            "hidden_size": text.hidden,
            "intermediate_size": text.inner,
            "num_hidden_layers": text.layers,
            "num_attention_heads": text.heads,
            "num_key_value_heads": text.kv_heads,
            "head_dim": text.head_size,
            "linear_num_key_heads": text.delta_heads,
            "linear_num_value_heads": text.delta_heads,
            "linear_key_head_dim": text.delta_size,
            "linear_value_head_dim": text.delta_size,
            "max_position_embeddings": CONTEXT_TOKENS,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000_000.0,
                "partial_rotary_factor": 0.25,
                "mrope_section": sections,
                "mrope_interleaved": True,
            },
            "pad_token_id": tokenizer.token_to_id("<|endoftext|>"),
            "eos_token_id": tokenizer.token_to_id("<|im_end|>"),
            "tie_word_embeddings": text.is_tied,
        },
        "vision_config": {
            "hidden_size": vision.hidden,
            "intermediate_size": vision.inner,
            "num_hidden_layers": vision.layers,
            "num_attention_heads": vision.heads,
            "image_size": vision.resolution,
            "patch_size": PATCH_PIXELS,
        },
        "insert_layer_id": vision.insert_layer,
        "image_size": vision.resolution,
        "downsample_mode": "16x",
        "image_token_id": tokenizer.token_to_id("<|image_pad|>"),
        "video_token_id": tokenizer.token_to_id("<|video_pad|>"),
        "tie_word_embeddings": text.is_tied,
    }
