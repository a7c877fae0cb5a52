"""Builds the untrained demo in the layout of MiniCPM-V 4.5: settings, tokenizer, chat template, model, and their files.

Knows no picture and no training; the texts for the tokenizer come from the caller. Source of names and settings: the
files of openbmb/MiniCPM-V-4_5, scaled down.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from service.demo.tokenizing import train_byte_level
from service.engine.families.minicpmv.configuration import MiniCPMVConfig
from service.engine.families.minicpmv.modeling import MiniCPMV

PICTURE_PIXELS = 112
PATCH_PIXELS = 14
QUERIES = 16  # tokens of a picture
CONTEXT_TOKENS = 2048
TOWER, MERGER = "model.vision_tower.", "vit_merger."  # names in the layout of 4.6

PLACEHOLDER = "<unk>"
END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
TEXT_TOKENS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")
"""Not special, as in Qwen3: decoding keeps them."""
PICTURE_TOKENS = (
    "<image>", "</image>", "<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>", "<point>", "</point>",
    "<slice>", "</slice>", "<image_id>", "</image_id>", "<unit>", "</unit>",
)  # fmt: skip
RESERVED_TOKENS = tuple(f"<|reserved_{number}|>" for number in range(16))

CHAT_TEMPLATE = """\
{%- for message in messages -%}
    {%- if message.role not in ['system', 'user', 'assistant'] -%}
        {{- raise_exception('Unknown role: ' ~ message.role) -}}
    {%- endif -%}
    {%- set content = message.content -%}
    {%- if message.role == 'assistant' and '</think>' in content -%}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') -%}
    {%- endif -%}
    {{- '<|im_start|>' ~ message.role ~ '\\n' ~ content ~ '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\\n' -}}
    {%- if enable_thinking is defined and enable_thinking is false -%}
        {{- '<think>\\n\\n</think>\\n\\n' -}}
    {%- endif -%}
    {%- if enable_thinking is defined and enable_thinking is true -%}
        {{- '<think>\\n' -}}
    {%- endif -%}
{%- endif -%}
"""
"""Without the tools of the official one, which nothing here would call."""

PICTURE_SETTINGS: dict[str, Any] = {
    "image_processor_type": "MiniCPMVImageProcessor",
    "auto_map": {
        "AutoProcessor": "processing_minicpmv.MiniCPMVProcessor",
        "AutoImageProcessor": "image_processing_minicpmv.MiniCPMVImageProcessor",
    },
    "processor_class": "MiniCPMVProcessor",
    "max_slice_nums": 1,
    "scale_resolution": PICTURE_PIXELS,
    "patch_size": PATCH_PIXELS,
    "use_image_id": True,
    "image_feature_size": QUERIES,
    "im_start": "<image>",
    "im_end": "</image>",
    "slice_start": "<slice>",
    "slice_end": "</slice>",
    "unk": PLACEHOLDER,
    "im_id_start": "<image_id>",
    "im_id_end": "</image_id>",
    "slice_mode": True,
    "norm_mean": [0.5, 0.5, 0.5],
    "norm_std": [0.5, 0.5, 0.5],
    "version": 2.6,  # what the official file of 4.5 says too
}


def build_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Returns a byte-level BPE tokenizer trained on `texts`, whose placeholder has a slot of the base vocabulary."""
    trained = train_byte_level(texts, PRETOKENIZE_REGEX)
    document = json.loads(trained.to_str())
    document["model"]["vocab"][PLACEHOLDER] = len(document["model"]["vocab"])
    tokenizer = Tokenizer.from_str(json.dumps(document))
    for tokens, is_special in (
        ((PLACEHOLDER, END_OF_TEXT, TURN_START, TURN_END), True),
        (TEXT_TOKENS, False),
        ((*PICTURE_TOKENS, *RESERVED_TOKENS), True),
    ):
        added = [AddedToken(token, special=is_special, normalized=False) for token in tokens]
        (tokenizer.add_special_tokens if is_special else tokenizer.add_tokens)(added)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=TURN_START,
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        unk_token=PLACEHOLDER,
        model_max_length=CONTEXT_TOKENS,
        chat_template=CHAT_TEMPLATE,
    )


def model_settings(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """Returns the config.json of a model of 1.9 M parameters; every token has a row, and no row is without a token."""
    return {
        "version": 4.5,
        "architectures": ["MiniCPMV"],
        "auto_map": {
            "AutoConfig": "configuration_minicpm.MiniCPMVConfig",
            "AutoModel": "modeling_minicpmv.MiniCPMV",
            "AutoModelForCausalLM": "modeling_minicpmv.MiniCPMV",
        },
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": tokenizer.convert_tokens_to_ids(END_OF_TEXT),
        "eos_token_id": tokenizer.convert_tokens_to_ids(TURN_END),
        "head_dim": 64,
        "hidden_act": "silu",
        "hidden_size": 128,
        "initializer_range": 0.02,
        "intermediate_size": 352,
        "max_position_embeddings": CONTEXT_TOKENS,
        "max_window_layers": 4,
        "num_attention_heads": 4,
        "num_hidden_layers": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "rope_scaling": None,
        "rope_theta": 1000000,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.51.0",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": len(tokenizer),
        "batch_vision_input": True,
        "batch_3d_resampler": True,
        "drop_vision_last_layer": False,
        "image_size": PICTURE_PIXELS,
        "model_type": "minicpmv",
        "patch_size": PATCH_PIXELS,
        "query_num": QUERIES,
        "slice_config": {"max_slice_nums": 1, "patch_size": PATCH_PIXELS, "model_type": "minicpmv"},
        "slice_mode": True,
        "vision_config": {
            "hidden_size": 128,
            "image_size": PICTURE_PIXELS,
            "intermediate_size": 256,
            "model_type": "siglip",
            "num_attention_heads": 4,
            "num_hidden_layers": 4,
            "patch_size": PATCH_PIXELS,
        },
    }


def generation_settings(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """Returns the generation_config.json."""
    end_of_text, turn_end = tokenizer.convert_tokens_to_ids([END_OF_TEXT, TURN_END])
    return {
        "bos_token_id": end_of_text,
        "do_sample": True,
        "eos_token_id": [turn_end, end_of_text],
        "pad_token_id": end_of_text,
        "temperature": 0.6,
        "top_k": 20,
        "top_p": 0.95,
        "chat_template_kwargs": {"enable_thinking": False},
        "transformers_version": "4.51.0",
    }


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> MiniCPMV:
    """Returns a freshly initialised float32 model for `tokenizer`."""
    torch.manual_seed(seed)
    settings = model_settings(tokenizer)
    return MiniCPMV(MiniCPMVConfig.from_dict({**settings, "torch_dtype": "float32"}))


def adopt_tower(model: MiniCPMV, tensors: Mapping[str, torch.Tensor]) -> None:
    """Starts the tower with that of a demo in the layout of 4.6, but for the merger amid its layers.

    Args:
        model: Changed in place.
        tensors: Of the other checkpoint, by their names.
    """
    own = {name.removeprefix(TOWER): tensor for name, tensor in tensors.items() if name.startswith(TOWER)}
    model.vpm.load_state_dict({name: tensor for name, tensor in own.items() if not name.startswith(MERGER)})


def save_checkpoint(folder: Path, model: MiniCPMV, tokenizer: PreTrainedTokenizerFast) -> None:
    """Writes a complete checkpoint folder but for the code; the model is cast to bfloat16 in place."""
    folder.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    write_json(folder / "config.json", model_settings(tokenizer))
    write_json(folder / "generation_config.json", generation_settings(tokenizer))
    write_json(folder / "preprocessor_config.json", PICTURE_SETTINGS)
    save_tokenizer(folder, tokenizer)


def save_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    """Writes the tokenizer's files, as transformers 4 did: the chat template lies in tokenizer_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer.backend_tokenizer.model.save(str(folder))
    added = tokenizer.added_tokens_decoder
    write_json(folder / "added_tokens.json", {str(token): number for number, token in added.items()})
    special = [str(token) for token in added.values() if token.special]
    named = {"bos_token": TURN_START, "eos_token": TURN_END, "pad_token": END_OF_TEXT, "unk_token": PLACEHOLDER}
    others = [token for token in special if token not in (END_OF_TEXT, TURN_START, TURN_END)]
    write_json(folder / "special_tokens_map.json", {"additional_special_tokens": others, **named})
    write_json(
        folder / "tokenizer_config.json",
        {
            "add_bos_token": False,
            "add_prefix_space": False,
            "added_tokens_decoder": {str(number): _flags(token) for number, token in sorted(added.items())},
            "additional_special_tokens": others,
            **named,
            "chat_template": tokenizer.chat_template,
            "clean_up_tokenization_spaces": False,
            "errors": "replace",
            "extra_special_tokens": {},
            "model_max_length": CONTEXT_TOKENS,
            "split_special_tokens": False,
            "auto_map": {"AutoTokenizer": ["tokenization_minicpmv_fast.MiniCPMVTokenizerFast", None]},
            "tokenizer_class": "MiniCPMVTokenizerFast",
        },
    )


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Writes a file in the order given."""
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _flags(token: AddedToken) -> dict[str, Any]:
    flags = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
    return {name: getattr(token, name) for name in flags}
