"""Broken models of the fifth wave: what stands in the weight files."""

from pathlib import Path

import torch

from benchmarks.unseen.case import Bundle, Case
from benchmarks.unseen.fourth_editing import (
    CONFIG,
    mean_row,
    merging,
    names_of,
    on_tensor,
    with_rows,
)
from benchmarks.unseen.third_4_6_editing import (
    ADAPTERS,
    BASE,
    EMBEDDINGS,
    HEAD,
    MERGED,
    Edit,
    Make,
    Tensors,
    all_of,
    alone,
    copied,
    deltas,
    mapped,
    merge_into,
    on_tensors,
    read_lora,
    said_to_merge,
    setting,
    taking,
    target_of,
    without_tensors,
)

GAINS = ("layernorm.weight", "q_norm.weight", "k_norm.weight", "language_model.norm.weight")
FUSED = {
    "linear_attn.in_proj_qkvz": ("linear_attn.in_proj_qkv", "linear_attn.in_proj_z"),
    "linear_attn.in_proj_ba": ("linear_attn.in_proj_b", "linear_attn.in_proj_a"),
    "mlp.gate_up_proj": ("mlp.gate_proj", "mlp.up_proj"),
}
"""Weights that a server keeps as one, and those that it puts together."""


def _gate_after_all_queries(weight: torch.Tensor) -> torch.Tensor:
    """Put the queries of all heads before the gates of all; the file has them head by head."""
    heads = weight.view(2, 2, 64, -1)
    return heads.transpose(0, 1).reshape(weight.shape)


def _grouped_by_head(weight: torch.Tensor) -> torch.Tensor:
    """Order rows by key head and then by query, key and value."""
    return weight.view(3, 2, 64, -1).transpose(0, 1).reshape(weight.shape)


def _without_scales(tensors: Tensors) -> Tensors:
    """Write one kind of matrix as 8-bit floats, their scales beside them, and 16 bits for what was read from them."""
    written = dict(tensors)
    for name in names_of(tensors, ("mlp.gate_proj.weight",)):
        scale = tensors[name].float().abs().max() / 448
        raw = (tensors[name].float() / scale).to(torch.float8_e4m3fn)
        written[name] = raw.to(torch.bfloat16)
        written[f"{name}_scale_inv"] = scale.reshape(1, 1)
    return written


def _fuse(tensors: Tensors) -> Tensors:
    """Put weights together as a server does, and lose the separate ones."""
    written = dict(tensors)
    for whole, parts in FUSED.items():
        for name in names_of(tensors, (f"{parts[0]}.weight",)):
            others = [name.replace(parts[0], part) for part in parts]
            written[name.replace(parts[0], whole)] = torch.cat([written.pop(one) for one in others])
    return written


def _wrapped_by_adapter(tensors: Tensors) -> Tensors:
    """Name weights as they are called while an adapter is mounted, and add its factors."""
    factors = {
        name.removeprefix("base_model.model.").replace(".weight", ".default.weight"): one
        for name, one in read_lora(ADAPTERS / "json").items()
    }
    targets = {target_of(name) for name in read_lora(ADAPTERS / "json")}
    wrapped = {
        name.removesuffix("weight") + "base_layer.weight" if name in targets else name: one
        for name, one in tensors.items()
    }
    return {**wrapped, **factors}


def _stack_one_more(tensors: Tensors) -> Tensors:
    """Repeat the third layer, so that what was the last one has a number that the config does not count."""
    written = dict(tensors)
    for name in names_of(tensors, (".layers.3.",)):
        if "language_model" in name:
            written[name.replace(".layers.3.", ".layers.4.")] = written.pop(name)
    for name in names_of(tensors, ("language_model.layers.2.",)):
        written[name.replace(".layers.2.", ".layers.3.")] = tensors[name].clone()
    return written


def _merged_from(adapter: str, edit: Edit) -> Make:
    """Make a case of a model that is said to be the merge of one of the demo's adapters, named after it."""

    def make(parent: Path) -> Bundle:
        model = copied(BASE, parent, f"tuned-{adapter}")
        edit(model)
        return Bundle(model, merged_from=(BASE, ADAPTERS / adapter))

    return make


def _tokens_without_rows(parent: Path) -> Bundle:
    """Merge an adapter with new tokens into matrices that were cut to the length of the old tokenizer."""
    model = copied(BASE, parent, "tuned-tokens")
    merging(ADAPTERS / "tokens")(model)
    with_rows(761, mean_row, HEAD, EMBEDDINGS)(model)
    setting(CONFIG, "text_config.vocab_size", 761)(model)
    taking("tokenizer.json", ADAPTERS / "tokens")(model)
    return Bundle(model)


def _adapter_left_beside(parent: Path) -> Bundle:
    """Keep the adapter's files in the folder of the model that it was merged into."""
    model = copied(MERGED, parent, "tuned-json")
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        taking(file, ADAPTERS / "json")(model)
    return Bundle(model, base=BASE)


def _merge_feed_forward_not(folder: Path) -> None:
    """Merge all but the feed-forward layers."""
    added = {name: one for name, one in deltas().items() if ".mlp." not in name}
    on_tensors(lambda tensors: merge_into(tensors, added))(folder)


def _head_not_kept(folder: Path) -> None:
    """Save as if head and embeddings were one matrix."""
    without_tensors(HEAD)(folder)
    setting(CONFIG, "tie_word_embeddings", True)(folder)
    setting(CONFIG, "text_config.tie_word_embeddings", True)(folder)


CASES = (
    Case(
        "gains_shifted_for_another_runtime",
        alone(mapped(lambda gain: gain + 1, *GAINS)),
        "A conversion for a runtime that multiplies by the gain itself has added one to every RMSNorm weight, and its "
        "folder was handed back; here one is added again and answers are noise (Blaizzy/mlx-vlm#1556)",
        ("norm", "layernorm", "gain"),
    ),
    Case(
        "conv_kernel_squeezed",
        alone(mapped(lambda kernel: kernel.squeeze(1), "conv1d.weight")),
        "A round trip through GGUF kept the convolution's kernel as channels by taps, without the middle dimension, "
        "so that the tensors do not fit the model (ggml-org/llama.cpp#27132)",
        ("conv1d", "linear_attn", "convolution"),
    ),
    Case(
        "query_gates_after_all_queries",
        alone(mapped(_gate_after_all_queries, "self_attn.q_proj.weight"), with_base=True),
        "A weight bridge from Megatron wrote the gated attention's queries of all heads and then all gates, where the "
        "model has query and gate head by head; shapes agree, answers do not (THUDM/slime#1575)",
        ("q_proj", "gate", "self_attn"),
    ),
    Case(
        "linear_attention_grouped_by_head",
        alone(mapped(_grouped_by_head, "linear_attn.in_proj_qkv.weight")),
        "A converter wrote the linear attention's projection in the order of Qwen3-Next, by key head, where this "
        "model has all queries, all keys, all values; nothing complains and answers are garbage "
        "(sgl-project/sglang#32706)",
        ("in_proj_qkv", "linear_attn", "linear attention"),
    ),
    Case(
        "saved_while_adapter_was_mounted",
        alone(on_tensors(_wrapped_by_adapter), with_base=True),
        "The state was saved before the adapter was merged: weights are called base_layer with the factors beside "
        "them, none of which the plain model finds (huggingface/peft#1381)",
        ("base_layer", "lora_", "unmerged", "in_proj_qkv"),
    ),
    Case(
        "adapter_left_beside_its_merge",
        _adapter_left_beside,
        "`save_pretrained` after merging left the adapter's two files in the folder; transformers mounts them on top "
        "of the merged weights, and the adapter counts twice (huggingface/peft#1381)",
        ("adapter_config", "adapter_model", "twice"),
    ),
    Case(
        "head_tied_when_merge_was_saved",
        alone(_head_not_kept, MERGED, with_base=True),
        "The merged model was saved with `tie_word_embeddings` on, so that its own head was dropped and the "
        "embeddings answer in its place (huggingface/transformers#45127)",
        ("tie_word_embeddings", "lm_head", "tied"),
    ),
    Case(
        "scales_of_eight_bit_floats_unused",
        alone(on_tensors(_without_scales)),
        "From an FP8 release: the gate projections hold raw 8-bit values whose scales lie beside them under a name "
        "that nothing reads, hundreds of times too large (unslothai/unsloth#6200)",
        ("gate_proj", "scale", "quantiz", "fp8"),
    ),
    Case(
        "spare_rows_of_head_not_a_number",
        alone(on_tensor(HEAD, lambda head: head.index_fill(0, torch.arange(800, 832), torch.nan))),
        "A merge with another tokenizer divided by no model at all for tokens that nobody uses: their rows of the "
        "head are not numbers, and each next token is one of them (arcee-ai/mergekit#73)",
        ("nan", "finite", "lm_head", "not a number"),
    ),
    Case(
        "merge_gave_up_on_feed_forward",
        said_to_merge(_merge_feed_forward_not, BASE),
        "The merge did not know the layout of some modules' factors and silently wrote the base's weights for them; "
        "what the adapter taught there is lost (unslothai/unsloth#5410)",
        ("mlp", "gate_proj", "up_proj", "down_proj", "feed-forward"),
    ),
    Case(
        "merge_without_rows_of_new_tokens",
        _merged_from("tokens", all_of(merging(ADAPTERS / "tokens"), taking("tokenizer.json", ADAPTERS / "tokens"))),
        "Merged with the new tokens' tokenizer but without their trained rows: the tokens cannot be written and "
        "answers lose their markup (unslothai/unsloth#1971)",
        ("embed_tokens", "lm_head", "<fig>", "<col>", "token_adapter", "trainable"),
    ),
    Case(
        "matrices_shorter_than_tokenizer",
        _tokens_without_rows,
        "The upload resized both matrices back to the old vocabulary while the tokenizer kept the new tokens, whose "
        "ids have no rows (unslothai/unsloth#3416)",
        ("vocab", "embed_tokens", "lm_head", "<fig>", "rows"),
    ),
    Case(
        "text_part_saved_alone",
        alone(without_tensors("vision_tower", "merger")),
        "Tuned and saved through the text class, so that only the language model's tensors are in the file; the vision "
        "tower starts at random and pictures mean nothing (huggingface/trl#5269)",
        ("vision_tower", "merger", "vision"),
    ),
    Case(
        "projector_not_merged",
        _merged_from("official", merging(ADAPTERS / "official")),
        "The adapter trained the projector whole beside its factors, and the merge script loaded that part with "
        "`strict=False` and the wrong prefix; the base's own stayed (2U1/Qwen-VL-Series-Finetune#259)",
        ("merger", "embed_tokens", "modules_to_save", "projector"),
    ),
    Case(
        "names_of_a_server",
        alone(on_tensors(_fuse)),
        "Exported from a running server, which keeps several projections as one: the fused tensors have names that "
        "transformers does not read (vllm-project/vllm#9332)",
        ("in_proj_qkvz", "in_proj_ba", "gate_up_proj", "in_proj_qkv", "gate_proj"),
    ),
    Case(
        "one_layer_more_than_config",
        alone(on_tensors(_stack_one_more)),
        "A passthrough merge repeated a layer, and the tool could not set the number of layers in the config: the last "
        "layer is never loaded and the repeated one has its kind wrong (arcee-ai/mergekit#537)",
        ("num_hidden_layers", "layers.4", "layers.3", "layer_types"),
    ),
)
