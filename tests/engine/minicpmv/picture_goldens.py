"""What the official processors of MiniCPM-V 2.6 and 4.5 made of drawings and prompts, and tokenizers to compare with.

The vectors were made with the real vocabularies, which are too large for this repository. A tokenizer that knows just
the words of the vectors, by their real ids, stands in for them.
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from service.domain.generation import Message, PictureRef
from service.engine.families.minicpmv.processing import PLACE, Markers

FOLDER = Path(__file__).parents[2] / "golden" / "minicpmv" / "processor"
VERSIONS = ("2.6", "4.5")
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
"""How Qwen's tokenizer cuts text, as far as the vectors go."""
TURNS = ("<|im_start|>", "<|im_end|>")
CONTROLS = (*Markers().texts, *TURNS, "<think>", "</think>")
CONTROL = re.compile(f"({'|'.join(map(re.escape, CONTROLS))})")
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TEMPLATES = {
    "2.6": "{% if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}" + CHATML,
    "4.0": CHATML,
    "4.5": CHATML + "{% if enable_thinking is defined and add_generation_prompt %}"
    "{{ '<think>\n' if enable_thinking else '<think>\n\n</think>\n\n' }}{% endif %}",
}


@cache
def read(name: str) -> Any:
    return json.loads((FOLDER / name).read_text())


def picture(name: str) -> Image.Image:
    return Image.open(FOLDER / "png" / name)


def prompts(version: str) -> list[dict[str, Any]]:
    return list(read(f"prompts_{version}.json"))


def with_placeholders(text: str) -> str:
    return text.replace("{UNK*64}", "<unk>" * 64)


def ids_of(prompt: dict[str, Any]) -> list[int]:
    return [one for one, count in prompt["input_ids_rle"] for _ in range(count)]


def messages_of(prompt: dict[str, Any]) -> tuple[list[Message], list[Image.Image]]:
    """Return a vector's conversation as the service has it; the pictures are blank, of the sizes that it names."""
    numbers = iter(range(len(prompt["images"])))
    messages = [
        Message(
            turn["role"],
            tuple(PictureRef(next(numbers)) if line == PLACE else line for line in turn["content"].split("\n")),
        )
        for turn in prompt["messages"]
    ]
    return messages, [Image.new("RGB", tuple(size)) for size in prompt["images"]]


@cache
def words_of(version: str) -> dict[str, int]:
    """Return the words of a version's vectors with their ids; each has one wherever it occurs."""
    split = pre_tokenizers.Split(Regex(WORDS), behavior="isolated")
    words: dict[str, int] = {}
    for prompt in prompts(version):
        pieces = []
        for chunk in CONTROL.split(with_placeholders(prompt["expanded"])):
            pieces += [chunk] if chunk in CONTROLS else [one for one, _ in split.pre_tokenize_str(chunk)]
        for piece, token_id in zip(pieces, ids_of(prompt), strict=True):
            assert words.setdefault(piece, token_id) == token_id
    return words


def word_tokenizer(version: str) -> Any:
    """Knows the words of the vectors by their real ids, and nothing else."""
    words = words_of(version)
    backend = Tokenizer(models.WordLevel({**words, "[none]": 200_000}, unk_token="[none]"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(WORDS), behavior="isolated")
    backend.add_special_tokens([AddedToken(one, special=True, normalized=False) for one in words if one in CONTROLS])
    return PreTrainedTokenizerFast(tokenizer_object=backend, chat_template=TEMPLATES[version])


UNK_MERGES = [("<", "u"), ("<u", "n"), ("<un", "k"), ("<unk", ">")]
"""The letters of `<unk>` merge to the very token that is the placeholder."""


def byte_vocabulary() -> dict[str, int]:
    """Return all bytes, and `<unk>` with its beginnings; "!" is 0."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    return {piece: number for number, piece in enumerate([*letters, *("".join(pair) for pair in UNK_MERGES)])}


def byte_tokenizer(version: str, *, without: tuple[str, ...] = ()) -> Any:
    """Knows every text byte by byte, and the tokens that build turns and pictures."""
    backend = Tokenizer(models.BPE(byte_vocabulary(), UNK_MERGES))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    known = [one for one in CONTROLS if one not in without]
    backend.add_special_tokens([AddedToken(one, special=True, normalized=False) for one in known])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, chat_template=TEMPLATES[version], eos_token="<|im_end|>", unk_token="<unk>"
    )
