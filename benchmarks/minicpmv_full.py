"""Loads, audits and asks a MiniCPM-V 4.0 of the official size with random weights, and says what it took.

    .venv/bin/python -m benchmarks.minicpmv_full --root /var/tmp

Needs 9 GB of disk under the root, for as long as it runs, and 12 GB of memory. The weights are one random block,
repeated, written straight into safetensors files of the official names; they know nothing, so that the answer is not
judged. Peaks are of this process: what it owns, and that with the pages of the weights' files that it looks at.
"""

import argparse
import itertools
import json
import os
import resource
import shutil
import struct
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from types import TracebackType
from typing import Any, Self

import numpy as np
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

VOCABULARY = 73448
SPECIAL = {"<unk>": 0, "<s>": 1, "</s>": 2, "<|im_end|>": 73440, "<|im_start|>": 73441}
MARKERS = ("<image>", "</image>", "<slice>", "</slice>", "<image_id>", "</image_id>")
FIRST_MARKER = 101
"""The official ids are not known; any do, because they are looked up by text."""
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TURNS = 64
"""Numbers of the long rope, one for two dimensions of a head."""
SHARD_BYTES = 2 << 30
BLOCK = (1 << 24) + 3
"""Random numbers that are made; all matrices are pieces of their repetition. Odd, so that no two rows are the same."""
SPREAD = 0.02
SEED = 0
READ_BYTES = 16 << 20
TARGET = 1.15
CONFIG: dict[str, Any] = {
    "architectures": ["MiniCPMV"],
    "model_type": "minicpmv",
    "version": 4.0,
    "torch_dtype": "bfloat16",
    "vocab_size": VOCABULARY,
    "hidden_size": 2560,
    "intermediate_size": 10240,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "hidden_act": "silu",
    "initializer_range": SPREAD,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "rope_scaling": {
        "rope_type": "longrope",
        "factor": 1.0,
        "long_factor": [1.0 + index / 2 for index in range(TURNS)],
        "short_factor": [1.0 + index / 2 for index in range(TURNS)],
        "original_max_position_embeddings": 32786,
    },
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": [2, 73440],
    "pad_token_id": 2,
    "drop_vision_last_layer": False,
    "image_size": 448,
    "patch_size": 14,
    "query_num": 64,
    "slice_mode": True,
    "slice_config": {"max_slice_nums": 9, "patch_size": 14, "model_type": "minicpmv"},
    "vision_config": {
        "model_type": "siglip",
        "hidden_size": 1152,
        "image_size": 980,
        "intermediate_size": 4304,
        "num_attention_heads": 16,
        "num_hidden_layers": 27,
        "patch_size": 14,
    },
}
PICTURES = {
    "image_processor_type": "MiniCPMVImageProcessor",
    "processor_class": "MiniCPMVProcessor",
    "max_slice_nums": 9,
    "scale_resolution": 448,
    "patch_size": 14,
    "use_image_id": True,
    "image_feature_size": 64,
    "slice_mode": True,
    "norm_mean": [0.5, 0.5, 0.5],
    "norm_std": [0.5, 0.5, 0.5],
    "version": 4.0,
}


class Watch:
    """Samples this process's memory while a stage runs.

    Attributes:
        owned: Peak of what the process alone has, bytes above what it had at the start.
        resident: Peak of that with the pages of files, bytes above what it had at the start.
        seconds: How long the stage took.
    """

    owned = resident = 0
    seconds = 0.0

    def __enter__(self) -> Self:
        self._before = _memory()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._started = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds = time.monotonic() - self._started
        self._is_over.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._is_over.wait(0.02):
            owned, resident = _memory()
            self.owned = max(self.owned, owned - self._before[0])
            self.resident = max(self.resident, resident - self._before[1])


def main() -> None:
    """Write the folder, measure, and delete it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path(tempfile.gettempdir()), help="where the folder is written")
    with _folder(parser.parse_args().root) as folder:
        weights = _write(folder)
        print(f"weights            {weights / 1e9:6.2f} GB in {len(list(folder.glob('*.safetensors')))} files")
        reading = _read_seconds(folder)
        print(f"reading the files  {reading:6.1f} s, {weights / 1e9 / reading:.2f} GB/s")
        _forget_pages(folder)
        _measure(folder, weights, reading)


def _measure(folder: Path, weights: int, reading: float) -> None:
    from service.audit.judging import audit
    from service.audit.usage import control_tokens
    from service.checkpoint.locating import locate
    from service.checkpoint.reading import read_checkpoint
    from service.engine.engine import Engine, Limits
    from service.engine.families.family import LoadOptions
    from service.engine.families.registry import find_family
    from service.engine.load_report import adopt_transformers
    from service.engine.loading import LoadPlan, choose_device, choose_dtype, load
    from service.engine.measuring import measure

    adopt_transformers()
    device = choose_device("cpu")
    options = LoadOptions(device, choose_dtype("bfloat16", device, CONFIG), None, is_code_trusted=False)
    with Watch() as watch:
        model, _ = find_family(CONFIG, is_code_trusted=False).load_model(folder, options)
    count = sum(one.numel() for one in model.parameters())
    _say("loading alone", watch, weights, f"{count / 1e9:.2f} B parameters, {watch.seconds / reading:.2f} x reading")
    del model
    _forget_pages(folder)
    with Watch() as watch:
        facts = read_checkpoint(locate(str(folder)), {})
        audit(facts)
    _say("audit of files", watch, weights, "before anything is loaded, as the service does")
    _forget_pages(folder)
    tokens = control_tokens(facts.base)
    with Watch() as watch:
        loaded = load(LoadPlan(folder, {}, None, tokens, device="cpu", dtype="bfloat16"))
    _say("service's loading", watch, weights, "with its probe")
    with Watch() as watch:
        report = audit(facts, measure(loaded))
    _say("audit of the model", watch, weights, report.overall.value)
    for finding in report.findings():
        print(f"    {finding.severity.value}: {finding.check}: {finding.message[:110]}")
    engine = Engine(loaded, Limits(2, max_running=2, cache_memory=2e8))
    try:
        with Watch() as watch:
            said = _answer(engine)
        _say("answer", watch, weights, said)
    finally:
        engine.stop()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / weights
    print(f"whole run          peak {peak:.3f} x weights with file pages and libraries, target {TARGET} x")


def _answer(engine: Any) -> str:
    from service.domain.generation import Failure, Generation, Job, Message, PictureRef, Sampling

    sampling = Sampling(
        max_new_tokens=8,
        temperature=0.0,
        top_p=1.0,
        top_k=0,
        repetition_penalty=1.0,
        seed=None,
        stop=(),
        is_logprobs=False,
    )
    message = Message("user", (PictureRef(0), "What is in the picture?"))
    job = Job("full", (message,), (Image.new("RGB", (640, 480), "red"),), None, sampling, time.monotonic() + 3600)
    events: Queue[Any] = Queue()
    engine.submit(engine.prepare(job, events.put, time.monotonic()))
    while not isinstance(event := events.get(timeout=3600), Generation):
        if isinstance(event, Failure):
            raise event.error
    usage = event.usage
    return f"{usage.prompt_tokens} tokens of prompt, {usage.image_tokens} of pictures, {usage.generated_tokens} new"


def _say(stage: str, watch: Watch, weights: int, more: str) -> None:
    shares = f"peak {watch.owned / weights:.2f} x weights owned, {watch.resident / weights:.2f} x with file pages"
    print(f"{stage:18} {watch.seconds:6.1f} s, {shares}; {more}", flush=True)


@contextmanager
def _folder(root: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="minicpmv-full-", dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _write(folder: Path) -> int:
    """Write the checkpoint; return the bytes of its weights."""
    for name, document in (("config.json", CONFIG), ("preprocessor_config.json", PICTURES)):
        (folder / name).write_text(json.dumps(document))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 73440], "pad_token_id": 2}))
    _tokenizer(folder)
    shapes = _shapes()
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    for name, shape in shapes.items():
        if _bytes(shards[-1]) + _bytes({name: shape}) > SHARD_BYTES:
            shards.append({})
        shards[-1][name] = shape
    block = _block()
    names: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        names |= dict.fromkeys(shard, file)
        _write_shard(folder / file, shard, block)
    index = {"metadata": {"total_size": _bytes(shapes)}, "weight_map": names}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return _bytes(shapes)


def _shapes() -> dict[str, tuple[int, ...]]:
    import torch

    from service.engine.families.minicpmv.configuration import MiniCPMVConfig
    from service.engine.families.minicpmv.modeling import MiniCPMV

    with torch.device("meta"):
        model = MiniCPMV(MiniCPMVConfig(**json.loads(json.dumps(CONFIG))))
    return {name: tuple(one.shape) for name, one in model.state_dict().items()}


def _bytes(shapes: Mapping[str, tuple[int, ...]]) -> int:
    return sum(2 * int(np.prod(shape)) for shape in shapes.values())


def _block() -> np.ndarray:
    """Return random bfloat16 numbers as their 16 bits: the upper half of float32."""
    numbers = np.random.default_rng(SEED).standard_normal(BLOCK, dtype=np.float32) * np.float32(SPREAD)
    return (numbers.view(np.uint32) >> 16).astype(np.uint16)


def _write_shard(path: Path, shapes: Mapping[str, tuple[int, ...]], block: np.ndarray) -> None:
    """Write a safetensors file: length of the header, header, numbers. Norms are one and biases zero."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + _bytes({name: shape})
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    one = int(np.float32(1).view(np.uint32)) >> 16
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            count = int(np.prod(shape))
            if len(shape) == 1:
                file.write(np.full(count, 0 if name.endswith("bias") else one, dtype=np.uint16).tobytes())
                continue
            place = zlib.crc32(name.encode()) % BLOCK  # so that no two are the same
            while count:
                piece = block[place : place + count]
                file.write(piece.tobytes())
                count, place = count - piece.size, 0


def _tokenizer(folder: Path) -> None:
    """Write a tokenizer of the official size: bytes, and words of two and three letters that merges make."""
    special = SPECIAL | {name: FIRST_MARKER + index for index, name in enumerate(MARKERS)}
    taken = {number: name for name, number in special.items()}
    merges = list(itertools.islice(_merges(), VOCABULARY - len(taken) - 256))
    words = itertools.chain(sorted(pre_tokenizers.ByteLevel.alphabet()), (first + last for first, last in merges))
    vocabulary = {taken.get(number) or next(words): number for number in range(VOCABULARY)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in special])
    tokenizer.save(str(folder / "tokenizer.json"))
    document = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "<|im_end|>",
        "unk_token": "<unk>",
        "pad_token": "</s>",
        "chat_template": TEMPLATE,
        "model_max_length": 32768,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(document))


def _merges() -> Iterator[tuple[str, str]]:
    """Yield merges of all pairs of letters, then of pairs with a third, so that each word is reached by its text."""
    letters = [chr(one) for one in range(ord("!"), ord("~") + 1)]
    yield from itertools.product(letters, letters)
    for first, second in itertools.combinations(letters, 2):  # merged before the second and third are
        yield from ((first + second, third) for third in letters)


def _read_seconds(folder: Path) -> float:
    """Read all weights once, plainly, from the disk."""
    _forget_pages(folder)
    started = time.monotonic()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb", buffering=0) as file:
            while file.read(READ_BYTES):
                pass
    return time.monotonic() - started


def _forget_pages(folder: Path) -> None:
    """Ask the system to forget what it holds of the weights, so that every stage reads from the disk."""
    for path in folder.glob("*.safetensors"):
        with path.open("rb+") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _memory() -> tuple[int, int]:
    """Return bytes that the process owns, and bytes with pages of files."""
    sizes = {
        name: int(value.split()[0]) * 1024
        for name, _, value in (line.partition(":") for line in Path("/proc/self/status").read_text().splitlines())
        if name in ("RssAnon", "VmRSS")
    }
    return sizes["RssAnon"], sizes["VmRSS"]


if __name__ == "__main__":
    main()
