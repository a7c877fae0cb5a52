"""Harmless models of 4.6 of the eighth wave: what other versions and tools write, and warn of."""

from pathlib import Path
from typing import Any

import torch

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import (
    CONFIG,
    GENERATION,
    PREPROCESSOR,
    PROCESSOR,
    TEMPLATE,
    TOKENIZER,
    TOKENIZER_CONFIG,
    noise,
    with_rows,
    zero_row,
)
from benchmarks.unseen.third_4_6_editing import (
    EMBEDDINGS,
    HEAD,
    INDEX,
    LANGUAGE_LAYERS,
    Tensors,
    all_of,
    alone,
    on_json,
    on_tensors,
    read_json,
    replacing,
    setting,
    sharded,
    without_files,
    write_json,
)

MARKED_ANSWERS = (
    (
        "{{- '<|im_start|>' ~ message.role ~ '\\n' ~ render_content(message.content) ~ '<|im_end|>\\n' -}}",
        "{{- '<|im_start|>' ~ message.role ~ '\\n' -}}\n"
        "    {%- if message.role == 'assistant' -%}\n"
        "        {%- generation -%}{{- render_content(message.content) ~ '<|im_end|>' -}}{%- endgeneration -%}\n"
        "    {%- else -%}\n"
        "        {{- render_content(message.content) ~ '<|im_end|>' -}}\n"
        "    {%- endif -%}\n"
        "    {{- '\\n' -}}",
    ),
)
NEXT_TOKEN_LAYER = {
    "mtp.fc.weight": (128, 256),
    "mtp.norm.weight": (128,),
    "mtp.pre_fc_norm_embedding.weight": (128,),
    "mtp.pre_fc_norm_hidden.weight": (128,),
    "mtp.layers.0.input_layernorm.weight": (128,),
    "mtp.layers.0.self_attn.q_proj.weight": (256, 128),
    "mtp.layers.0.mlp.gate_proj.weight": (352, 128),
}


def older_processor_files(folder: Path) -> None:
    """Write the processor's settings in files of their own, as transformers 4 did."""
    content = read_json(folder / PROCESSOR)
    write_json(folder / PREPROCESSOR, content.pop("image_processor"))
    write_json(folder / "video_preprocessor_config.json", content.pop("video_processor"))
    write_json(folder / PROCESSOR, content)


def both_processor_files(folder: Path) -> None:
    """Write the picture processor's settings a second time, for tools that look only there."""
    write_json(folder / PREPROCESSOR, read_json(folder / PROCESSOR)["image_processor"])


def older_tokenizer_files(folder: Path) -> None:
    """Write the files of a tokenizer that transformers 4 wrote beside tokenizer.json."""
    content = read_json(folder / TOKENIZER)
    write_json(folder / "vocab.json", content["model"]["vocab"])
    merges = [one if isinstance(one, str) else " ".join(one) for one in content["model"]["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    write_json(folder / "added_tokens.json", {one["content"]: one["id"] for one in content["added_tokens"]})
    write_json(folder / "special_tokens_map.json", {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})


def interval_for_layer_types(content: dict[str, Any]) -> None:
    """Say that every fourth layer attends in full, and leave the list of layers to the class."""
    text = content["text_config"]
    del text["layer_types"]
    text["full_attention_interval"] = 4


def pared_rope(content: dict[str, Any]) -> None:
    """Keep of the rotary settings what the class does not supply."""
    content["text_config"]["rope_parameters"] = {"rope_type": "default", "rope_theta": 10000.0}


def older_rope(content: dict[str, Any]) -> None:
    """Write the rotary settings as transformers 4 spelled them."""
    text = content["text_config"]
    rope = text.pop("rope_parameters")
    text["rope_theta"] = rope.pop("rope_theta")
    text["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
    text["rope_scaling"] = {**rope, "type": "default"}


def older_dtype(content: dict[str, Any]) -> None:
    """Write torch_dtype for dtype, everywhere."""
    for part in (content, content["text_config"], content["vision_config"]):
        part["torch_dtype"] = part.pop("dtype")
    content["transformers_version"] = "4.57.6"


def next_token_layer(tensors: Tensors) -> None:
    """Add the layer that predicts a second token, which transformers does not load."""
    for number, (name, shape) in enumerate(NEXT_TOKEN_LAYER.items()):
        tensors[name] = noise(torch.ones(shape).cumsum(0), 0.02, number).to(torch.bfloat16)


def state_in_float32(tensors: Tensors) -> None:
    """Keep in float32 what the released files keep there."""
    for name in tensors:
        if name.startswith(LANGUAGE_LAYERS) and name.endswith(("A_log", "dt_bias", "linear_attn.norm.weight")):
            tensors[name] = tensors[name].float()


def counted(content: dict[str, Any]) -> None:
    """Add the number of parameters to the index, as newer versions do."""
    content["metadata"] = {"total_parameters": 2748404, **content["metadata"]}


def trained_lengths(content: dict[str, Any]) -> None:
    """Leave the truncation of the last batch that was tokenized."""
    content["truncation"] = {"direction": "Right", "max_length": 32, "strategy": "LongestFirst", "stride": 0}


def template_of_tools(folder: Path) -> None:
    """Add a second template under the name under which tools are looked for."""
    (folder / "additional_chat_templates").mkdir()
    text = (folder / TEMPLATE).read_text(encoding="utf-8")
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text(text, encoding="utf-8")


def template_in_config(folder: Path) -> None:
    """Write the template into tokenizer_config.json too, for servers that read only that."""
    content = read_json(folder / TOKENIZER_CONFIG)
    content["chat_template"] = (folder / TEMPLATE).read_text(encoding="utf-8")
    write_json(folder / TOKENIZER_CONFIG, content)


CASES: tuple[Case, ...] = (
    Case(
        "processor_in_files_of_version_4",
        alone(older_processor_files),
        "preprocessor_config.json and video_preprocessor_config.json stand where transformers 5 nests both in "
        "processor_config.json; it reads the old layout too (huggingface/transformers#41474).",
    ),
    Case(
        "picture_settings_written_twice",
        alone(both_processor_files),
        "preprocessor_config.json was added again, equal to the nested settings, because servers ask for it "
        "(huggingface/transformers#44623).",
    ),
    Case(
        "tokenizer_files_of_version_4",
        alone(older_tokenizer_files),
        "vocab.json, merges.txt, added_tokens.json and special_tokens_map.json lie beside tokenizer.json, which holds "
        "all of it (microsoft/onnxruntime-extensions#1044).",
    ),
    Case(
        "tokenizer_class_made_loadable",
        alone(setting(TOKENIZER_CONFIG, "tokenizer_class", "PreTrainedTokenizerFast")),
        "A tool rewrote TokenizersBackend, which transformers 4 does not know, to the class that both know "
        "(gradients-ai/G.O.D#1276).",
    ),
    Case(
        "tokenizer_class_of_qwen",
        alone(setting(TOKENIZER_CONFIG, "tokenizer_class", "Qwen2Tokenizer")),
        "The class that Qwen3.5 itself names, restored by an export script "
        "(thinking-machines-lab/tinker-cookbook#582).",
    ),
    Case(
        "layer_types_left_to_the_interval",
        alone(on_json(CONFIG, interval_for_layer_types)),
        "config.json has full_attention_interval instead of layer_types; the class makes the same list of it.",
    ),
    Case(
        "rotary_settings_left_to_the_class",
        alone(on_json(CONFIG, pared_rope)),
        "Only kind and base are written; the partial factor of 0.25 is the class's own, and the sections do not matter "
        "where all three positions are equal.",
    ),
    Case(
        "rotary_settings_of_version_4",
        alone(on_json(CONFIG, older_rope)),
        "rope_theta, partial_rotary_factor and rope_scaling stand where transformers 4 had them; 5 gathers them "
        "(vllm-project/vllm#28542).",
    ),
    Case(
        "torch_dtype_for_dtype",
        alone(on_json(CONFIG, older_dtype)),
        "The old name of dtype, and the version that wrote it; tools warn that it is deprecated.",
    ),
    Case(
        "next_token_layer_kept",
        alone(all_of(on_tensors(next_token_layer), setting(CONFIG, "text_config.mtp_num_hidden_layers", 1))),
        "Weights for predicting a second token were copied back for vLLM; transformers leaves them out and answers "
        "without (modelscope/ms-swift#9802).",
    ),
    Case(
        "state_of_linear_attention_in_float32",
        alone(all_of(on_tensors(state_in_float32), setting(CONFIG, "text_config.mamba_ssm_dtype", "float32"))),
        "A_log, dt_bias and the gated norm are float32 beside bfloat16 weights, as the released files have them "
        "(NeuraLegion/shainet#176).",
    ),
    Case(
        "shards_with_counted_parameters",
        alone(all_of(sharded(4), on_json(INDEX, counted))),
        "Four shards, and an index whose metadata has total_parameters besides total_size.",
    ),
    Case(
        "padding_rows_cut_off",
        alone(all_of(with_rows(761, zero_row, EMBEDDINGS, HEAD), setting(CONFIG, "text_config.vocab_size", 761))),
        "mergekit wrote matrices with a row for each token and no padding, and vocab_size to match; people take it "
        "for lost tokens (arcee-ai/mergekit#425).",
    ),
    Case(
        "answers_marked_for_training",
        alone(replacing(TEMPLATE, *MARKED_ANSWERS)),
        "TRL's template for assistant_only_loss marks answers with generation tags; what it renders is the same "
        "(huggingface/trl#4879).",
    ),
    Case(
        "template_written_twice",
        alone(template_in_config),
        "The template was also put back into tokenizer_config.json, for a server that reads only that "
        "(huggingface/text-generation-inference#3247).",
    ),
    Case(
        "template_for_tools_besides",
        alone(template_of_tools),
        "additional_chat_templates holds a second template, used only if a request brings tools "
        "(huggingface/transformers#45851).",
    ),
    Case(
        "lengths_of_the_last_batch",
        alone(on_json(TOKENIZER, trained_lengths)),
        "tokenizer.json was saved with truncation still switched on; transformers switches it off for a call that does "
        "not ask for it (daulet/tokenizers#30).",
    ),
    Case(
        "pad_token_is_the_end_of_a_turn",
        alone(
            all_of(
                setting(GENERATION, "pad_token_id", 750),
                setting(CONFIG, "text_config.pad_token_id", 750),
                setting(TOKENIZER_CONFIG, "pad_token", "<|im_end|>"),
            )
        ),
        "The trainer made the end of a turn the padding token; with an attention mask padding is never read "
        "(huggingface/transformers#48016).",
    ),
    Case(
        "generation_settings_left_out",
        alone(without_files(GENERATION)),
        "A quantiser's save dropped generation_config.json; config.json still names the token that ends a turn "
        "(ModelCloud/GPTQModel#1291).",
    ),
    Case(
        "sampling_recommended",
        alone(
            on_json(GENERATION, lambda content: content.update(do_sample=True, temperature=0.7, top_p=0.8, top_k=20))
        ),
        "The maker's sampling settings were added; greedy requests do not use them.",
    ),
)
