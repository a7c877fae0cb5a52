"""Cases of `wave_third_4_5` about a text-only model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.unseen.case import Bundle
from benchmarks.unseen.third_4_5_folders import (
    FACTORS,
    OTHER_BASE,
    SETTINGS,
    Collector,
    Tensors,
    copy_adapter,
    json_of,
    merge,
    resize,
    tensors_of,
)
from benchmarks.unseen.third_4_5_texts import LANGUAGE, adapted_text, text_adapter, text_model

COLLECTED = Collector()
EMBEDDINGS, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def _with_settings(folder: Path, file: str = "config.json", **changed: Any) -> Bundle:
    model = text_model(folder)
    with json_of(model / file) as document:
        document |= changed
    return Bundle(model)


def _with_weights(folder: Path, change: Callable[[Tensors], None]) -> Bundle:
    model = text_model(folder)
    with tensors_of(model) as tensors:
        change(tensors)
    return Bundle(model)


@COLLECTED.broken(
    "The stop tokens of the pretrained model replaced those of the chat model; answers go on behind the end of their "
    "turn: 0 of 30 right instead of 28, and 30 never stop.",
    "eos_token_id", "<|im_end|>", "751",
)  # fmt: skip
def _text_stops_at_end_of_text_only(folder: Path) -> Bundle:
    model = _with_settings(folder, eos_token_id=749).model
    with json_of(model / "generation_config.json") as document:
        document["eos_token_id"] = 749
    with json_of(model / "tokenizer_config.json") as config:
        config["eos_token"] = "<|endoftext|>"
    return Bundle(model)


@COLLECTED.broken(
    "The head is not in the file, and config.json unties it: it is drawn anew at each start, 0 of 30 right instead of "
    "28, and 30 never stop.",
    HEAD,
)
def _text_head_lost(folder: Path) -> Bundle:
    def change(tensors: Tensors) -> None:
        del tensors[HEAD]

    return _with_weights(folder, change)


@COLLECTED.broken(
    "config.json calls it a Qwen2, which loads without the norms of queries and keys: 22 of 30 right instead of 28.",
    "q_norm", "k_norm", "model_type", "qwen2",
)  # fmt: skip
def _text_model_type_of_qwen2(folder: Path) -> Bundle:
    return _with_settings(folder, model_type="qwen2", architectures=["Qwen2ForCausalLM"])


@COLLECTED.broken(
    "Cut out of MiniCPM-V with the prefix left before each name: transformers starts everything at random, 0 of 30 "
    "right instead of 28, and 30 never stop.",
    "llm.", "model.layers", "embed_tokens",
)  # fmt: skip
def _text_names_with_prefix(folder: Path) -> Bundle:
    def change(tensors: Tensors) -> None:
        for name in list(tensors):
            tensors[LANGUAGE + name] = tensors.pop(name)

    return _with_weights(folder, change)


@COLLECTED.broken(
    "One layer fewer in config.json, from the config of a pruned sibling; the last layer is left out without an error: "
    "24 of 30 right instead of 28.",
    "num_hidden_layers", "layers.3",
)  # fmt: skip
def _text_layer_not_counted(folder: Path) -> Bundle:
    return _with_settings(folder, num_hidden_layers=3, max_window_layers=3)


@COLLECTED.broken(
    "The settings for a long context were copied with a short original one: positions are squeezed for every prompt: "
    "10 of 30 right instead of 28.",
    "rope_scaling", "rope", "factor",
)  # fmt: skip
def _text_positions_squeezed(folder: Path) -> Bundle:
    model = _with_settings(folder, rope_scaling={"rope_type": "linear", "factor": 8.0}).model
    return Bundle(model, base=text_model(folder, "base"))


@COLLECTED.broken(
    "The adapter was trained on the multimodal model and mounted on its language model alone: it cannot be loaded.",
    "llm.", "lora_A", "target_modules",
)  # fmt: skip
def _text_adapter_of_multimodal_model(folder: Path) -> Bundle:
    return Bundle(text_model(folder), {"polite": copy_adapter(folder)})


@COLLECTED.broken(
    "The adapter targets the linear layers of the MLP by its config, and its factors are of the attention: 23 of 30 as "
    "meant, and 29 as the base.",
    "gate_proj", "q_proj", "target_modules", "lora_A",
)  # fmt: skip
def _text_adapter_with_other_targets(folder: Path) -> Bundle:
    bundle, adapter = adapted_text(folder)
    with json_of(adapter / SETTINGS) as settings:
        settings["target_modules"] = ["down_proj", "gate_proj", "up_proj"]
    return bundle


@COLLECTED.broken(
    "Weights and tokenizer are of two releases: the tokenizer is that of the 4.6 demo, whose ids differ: 22 of 30 "
    "right instead of 28.",
    "tokenizer", "vocab", "<|im_start|>", "<|im_end|>",
)  # fmt: skip
def _text_tokenizer_of_another_release(folder: Path) -> Bundle:
    model = text_model(folder)
    for name in ("vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json"):
        (model / name).unlink()
    (model / "tokenizer.json").write_bytes((OTHER_BASE / "tokenizer.json").read_bytes())
    with json_of(model / "tokenizer_config.json") as config:
        config.pop("added_tokens_decoder")
    return Bundle(model)


@COLLECTED.harmless("The language model alone, as it was cut out: 28 of 30 right, as undamaged.")
def _text_cut_out(folder: Path) -> Bundle:
    return Bundle(text_model(folder))


@COLLECTED.harmless("Embeddings and head padded to 1024 rows, the new ones with means: 28 of 30 right, as undamaged.")
def _text_rows_padded_with_means(folder: Path) -> Bundle:
    model = text_model(folder)
    with tensors_of(model) as tensors:
        more = {name: tensors[name].float().mean(0).repeat(234, 1) for name in (EMBEDDINGS, HEAD)}
    resize(model, more)
    return Bundle(model)


@COLLECTED.harmless("Without generation_config.json; config.json names the right end: 28 of 30 right, as undamaged.")
def _text_without_generation_config(folder: Path) -> Bundle:
    model = text_model(folder)
    (model / "generation_config.json").unlink()
    return Bundle(model)


@COLLECTED.harmless(
    "The tokenizer begins plain texts with a turn's start, which chat templates do not go through: 28 of 30 right, as "
    "undamaged."
)
def _text_post_processor_adds_a_start(folder: Path) -> Bundle:
    model = text_model(folder)
    start = {"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}
    single = [start, {"Sequence": {"id": "A", "type_id": 0}}]
    with json_of(model / "tokenizer.json") as document:
        document["post_processor"] = {
            "type": "TemplateProcessing",
            "single": single,
            "pair": [*single, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<|im_start|>": {"id": "<|im_start|>", "ids": [750], "tokens": ["<|im_start|>"]}},
        }
    return Bundle(model)


@COLLECTED.harmless(
    "Base and adapter of the text model, as plain PEFT writes it, by whose answers the other adapters and merges of "
    "this "
    "model are measured."
)
def _text_with_adapter(folder: Path) -> Bundle:
    return adapted_text(folder)[0]


@COLLECTED.harmless("Merged rightly, with base and adapter given: 30 of 30 answers as with the adapter mounted.")
def _text_merged(folder: Path) -> Bundle:
    model, adapter = text_model(folder, "merged"), text_adapter(folder)
    merge(model, adapter)
    return Bundle(model, merged_from=(text_model(folder, "base"), adapter))


@COLLECTED.harmless(
    "Two dtypes in one file, as after training with norms and head in float32: 28 of 30 right, as undamaged."
)
def _text_mixed_dtypes(folder: Path) -> Bundle:
    def change(tensors: Tensors) -> None:
        for name, one in tensors.items():
            if "norm" in name or name == HEAD:
                tensors[name] = one.float()

    return _with_weights(folder, change)


@COLLECTED.harmless(
    "An adapter in float16 with keys that a later PEFT added to its config: 30 of 30 answers as before."
)
def _text_adapter_of_a_later_peft(folder: Path) -> Bundle:
    bundle, adapter = adapted_text(folder)
    with tensors_of(adapter, FACTORS) as tensors:
        tensors.update({name: one.half() for name, one in tensors.items()})
    with json_of(adapter / SETTINGS) as settings:
        settings |= {"peft_version": "0.30.0", "use_future_lora": False, "future_config": None}
    return bundle
