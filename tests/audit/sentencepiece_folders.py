"""A text model with a SentencePiece vocabulary, as MiniCPM 1 to 4 have: ways of reading it wrongly, and sound ones.

Each function edits a folder that `sound_folder` made. Does not judge; `test_sentencepiece.py` does.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from service.checkpoint.tokenizer import GOLDEN_TEXTS
from tests.builders import edited_json, write_json

Make = Callable[[Path], None]
TURNS = ("<|im_end|>", "<|im_start|>")
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
BROKEN: dict[str, Make] = {}
SOUND: dict[str, Make] = {}


def sentencepiece() -> Tokenizer:
    """Train a vocabulary: words begin with `▁`, letters that it does not know are spelled in bytes."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{one:02X}>" for one in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=pieces)
    tokenizer.train_from_iterator([*GOLDEN_TEXTS, "user", "assistant", "system"] * 9, trainer)
    tokenizer.pre_tokenizer = None
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(one, normalized=False, special=True) for one in TURNS])
    return tokenizer


def sound_folder(folder: Path) -> Path:
    """Write a tiny model of the llama type whose tokenizer is declared as the first MiniCPMs declare theirs."""
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    tokenizer = sentencepiece()
    stops = [tokenizer.token_to_id(one) for one in ("<|im_end|>", "</s>")]
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=tokenizer.get_vocab_size(), eos_token_id=stops))
    model.generation_config = GenerationConfig(eos_token_id=stops)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos_token": "<s>", "eos_token": "<|im_end|>", "unk_token": "<unk>"}
    config = {"tokenizer_class": "LlamaTokenizerFast", "legacy": True, "add_bos_token": False, "add_eos_token": False}
    write_json(folder / "tokenizer_config.json", config | names)
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    return folder


def broken(make: Make) -> Make:
    BROKEN[make.__name__] = make
    return make


def sound(make: Make) -> Make:
    SOUND[make.__name__] = make
    return make


@broken
def the_legacy_flag_is_lost(folder: Path) -> None:
    with edited_json(folder / "tokenizer_config.json") as config:
        del config["legacy"]


@broken
def the_legacy_flag_is_turned(folder: Path) -> None:
    with edited_json(folder / "tokenizer_config.json") as config:
        config["legacy"] = False


@sound
def as_written(folder: Path) -> None:
    assert folder.is_dir()


@sound
def a_class_that_takes_the_file_as_it_is(folder: Path) -> None:
    with edited_json(folder / "tokenizer_config.json") as config:
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
        del config["legacy"]
