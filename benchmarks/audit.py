"""Measures how long the audit of a large folder takes, and how much memory, by the command that an operator runs.

    .venv/bin/python benchmarks/audit.py --runs 3 --folder models/audit-benchmark

Makes two folders once (3.6 GB in all; kept in --folder if one is given): 152,000 rows of 4,096 values and 248,000 rows
of 1,024, bfloat16, embedding and head, each with a byte-level tokenizer of as many tokens. Prints the median and range
of seconds and the peak of resident memory of the audit's two processes together, pages that they share counted twice.
The page cache is warm: every file is read before the first run.
"""

import argparse
import contextlib
import json
import math
import os
import random
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SIZES = {"152k x 4096": (152_000, 4096, 15.0), "248k x 1024": (248_000, 1024, 5.0)}
"""Rows, values in a row, and the seconds that the audit may take on two cores."""
MAX_BYTES = 2_000_000_000
SAMPLING_SECONDS = 0.05
SHARD_VALUES = 64_000_000
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
ADDED = [
    {"content": text, "special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    for text in SPECIAL
]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
HEAD_DIM, INNER = 16, 64
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORD_LETTERS, WORDS_PER_TOKEN = 10, 3
"""A word of ten random letters gives some tokens of its own."""


def main() -> int:
    """Run the measurement, print a table, and fail if a limit is passed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to keep the folders; a temporary one if not given")
    known = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        return _measure_all(known.folder or Path(temporary), known.runs)


def _measure_all(root: Path, runs: int) -> int:
    is_within = True
    print(f"{os.cpu_count()} cores, {runs} runs each, warm page cache")
    for name, (num_rows, hidden, limit) in SIZES.items():
        folder = root / name.replace(" ", "")
        if not (folder / "model.safetensors").exists():
            make_folder(folder, num_rows, hidden)
        subprocess.run(["cat", *map(str, folder.iterdir())], stdout=subprocess.DEVNULL, check=True)
        samples = [_audit(folder) for _ in range(runs)]
        seconds = [one for one, _ in samples]
        peak = max(one for _, one in samples)
        print(
            f"{name}: median {statistics.median(seconds):5.2f} s ({min(seconds):.2f} to {max(seconds):.2f}), limit "
            f"{limit:.0f} s; peak {peak / 1e9:.2f} GB, limit {MAX_BYTES / 1e9:.0f} GB"
        )
        is_within = is_within and statistics.median(seconds) < limit and peak < MAX_BYTES
    return 0 if is_within else 1


def _audit(folder: Path) -> tuple[float, int]:
    """Return seconds and the peak of resident bytes of one audit, which must find nothing wrong."""
    started = time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = psutil.Popen([sys.executable, "-m", "service", "audit", str(folder)], stdout=output)
        peak = 0
        while process.poll() is None:
            peak = max(peak, _resident(process))
            time.sleep(SAMPLING_SECONDS)
        seconds = time.monotonic() - started
        if process.returncode != 0:
            output.seek(0)
            raise RuntimeError(f"the audit refused {folder.name}:\n{output.read().decode()}")
    return seconds, peak


def _resident(process: psutil.Process) -> int:
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        for one in (process, *process.children(recursive=True)):
            total += one.memory_info().rss
    return total


def make_folder(folder: Path, num_rows: int, hidden: int) -> None:
    """Write a text model's folder with vocabulary matrices of that size and one narrow layer.

    Args:
        folder: Where to.
        num_rows: Rows of both matrices; the tokenizer has 100 ids fewer.
        hidden: Values in a row.
    """
    folder.mkdir(parents=True, exist_ok=True)
    num_tokens = num_rows - 100 - len(SPECIAL)
    trained = _tokenizer(num_tokens)
    if trained.get_vocab_size() != num_tokens:
        raise RuntimeError(f"the made-up words gave {trained.get_vocab_size()} tokens, not {num_tokens}")
    tokenizer = json.loads(trained.to_str())
    tokenizer["added_tokens"] = [{"id": num_tokens + place, **one} for place, one in enumerate(ADDED)]
    stop = num_tokens + SPECIAL.index("<|im_end|>")
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "head_dim": HEAD_DIM,
        "intermediate_size": INNER,
        "vocab_size": num_rows,
        "tie_word_embeddings": False,
        "eos_token_id": stop,
    }
    named = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "tokenizer_class": "PreTrainedTokenizerFast"}
    for file, document in (
        ("tokenizer.json", tokenizer),
        ("config.json", config),
        ("generation_config.json", {"eos_token_id": [stop]}),
        ("tokenizer_config.json", named),
    ):
        (folder / file).write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    _write_weights(folder / "model.safetensors", num_rows, hidden, num_tokens)


def _tokenizer(num_tokens: int) -> Tokenizer:
    """Train a byte-level tokenizer on made-up words, so many that it gets as many tokens as it is to have."""
    chance = random.Random(0)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    words = ("".join(chance.choices(LETTERS, k=WORD_LETTERS)) for _ in range(num_tokens // WORDS_PER_TOKEN))
    trainer = trainers.BpeTrainer(
        vocab_size=num_tokens, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(words, trainer)
    return tokenizer


def _write_weights(path: Path, num_rows: int, hidden: int, num_tokens: int) -> None:
    """Write both matrices piece by piece: rows of rarer tokens are shorter, and nearer to a direction they share."""
    layer = "model.layers.0."
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (num_rows, hidden),
        "lm_head.weight": (num_rows, hidden),
        **{f"{layer}self_attn.{name}_proj.weight": (HEAD_DIM, hidden) for name in "qkv"},
        f"{layer}self_attn.o_proj.weight": (hidden, HEAD_DIM),
        **{f"{layer}mlp.{name}_proj.weight": (INNER, hidden) for name in ("gate", "up")},
        f"{layer}mlp.down_proj.weight": (hidden, INNER),
        **{f"{name}.weight": (hidden,) for name in (f"{layer}input_layernorm", f"{layer}post_attention_layernorm")},
        "model.norm.weight": (hidden,),
    }
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    chance = np.random.default_rng(0)
    common = chance.standard_normal(hidden, dtype=np.float32)
    rarity = np.arange(num_rows, dtype=np.float32)[:, None] / num_rows
    rarity[num_tokens : num_tokens + len(SPECIAL)] = 0
    step = SHARD_VALUES // hidden
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for is_head in (False, True):
            for start in range(0, num_rows, step):
                part = rarity[start : start + step]
                rows = chance.standard_normal((len(part), hidden), dtype=np.float32) * (1.5 - part)
                rows = 0.02 * (rows + 3 * part * common if is_head else rows)
                file.write(_bfloat16(rows.astype(np.float32)))
        for shape in list(shapes.values())[2:]:
            around = float(len(shape) == 1)  # norms
            file.write(_bfloat16((around + 0.02 * chance.standard_normal(shape, dtype=np.float32)).astype(np.float32)))


def _bfloat16(values: NDArray[np.float32]) -> bytes:
    return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).tobytes()


if __name__ == "__main__":
    raise SystemExit(main())
