"""Broken weights of the 4.6 demo: what conversions, distributed saves, hand-made merges and copies do to tensors."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from benchmarks.unseen.case import Bundle, Case
from benchmarks.unseen.fourth_editing import CONFIG, merging, names_of
from benchmarks.unseen.third_4_6_editing import (
    ADAPTERS,
    BASE,
    EMBEDDINGS,
    HEAD,
    LANGUAGE_LAYERS,
    MERGED,
    MODEL_WEIGHTS,
    Edit,
    Tensors,
    all_of,
    alone,
    copied,
    on_tensors,
    read_tensors,
    renamed,
    said_to_merge,
    setting,
    shards_of,
    without_tensors,
    write_shards,
    write_tensors,
)

JSON_ADAPTER = ADAPTERS / "json"


def _shift_norms(tensors: Tensors) -> None:
    for name in tensors:
        if name.startswith("model.language_model.") and "norm.weight" in name and "linear_attn" not in name:
            tensors[name] = tensors[name] + 1


def _keep_rates(tensors: Tensors) -> None:
    for name in names_of(tensors, ("linear_attn.A_log",)):
        tensors[name] = (-tensors[name].float().exp()).to(tensors[name].dtype)


def _fuse_projections(tensors: Tensors) -> None:
    for name in names_of(tensors, ("linear_attn.in_proj_qkv.weight",)):
        stem = name.removesuffix("qkv.weight")
        tensors[f"{stem}qkvz.weight"] = torch.cat([tensors.pop(name), tensors.pop(f"{stem}z.weight")])
        tensors[f"{stem}ba.weight"] = torch.cat([tensors.pop(f"{stem}b.weight"), tensors.pop(f"{stem}a.weight")])


def _leave_empty(tensors: Tensors) -> None:
    for name in names_of(tensors, (".mlp.", "linear_attn.out_proj", "self_attn.o_proj")):
        if tensors[name].ndim == 2:
            tensors[name] = torch.empty(0, dtype=tensors[name].dtype)


def _misorder_chunks(tensors: Tensors) -> None:
    for name in names_of(tensors, ("mlp.gate_proj.weight",)):
        if not name.startswith(LANGUAGE_LAYERS):
            continue
        other = name.replace("gate_proj", "up_proj")
        chunks = torch.cat([tensors[name], tensors[other]]).chunk(16)
        fused = torch.cat([*chunks[0::2], *chunks[1::2]])
        tensors[name], tensors[other] = fused.chunk(2)


def _zero_some(tensors: Tensors) -> None:
    for name in names_of(tensors, ("mlp.down_proj.weight",)):
        if not name.startswith(f"{LANGUAGE_LAYERS}0."):
            tensors[name] = torch.zeros_like(tensors[name])


def _spoil_unused_row(tensors: Tensors) -> None:
    tensors[HEAD][-1] = float("nan")


def _keep_integers(tensors: Tensors) -> None:
    for name in names_of(tensors, ("_proj.weight",)):
        if name.startswith(LANGUAGE_LAYERS) and ".mlp." in name:
            scale = tensors[name].float().abs().amax(1, keepdim=True) / 127
            tensors[name] = (tensors[name].float() / scale).round().to(torch.int8)
            tensors[f"{name}_scale"] = scale.to(torch.bfloat16)


def _leave_stale_file(model: Path) -> None:
    write_shards(model, shards_of(read_tensors(model), 2))
    (model / MODEL_WEIGHTS).unlink()
    save_file(load_file(BASE / MODEL_WEIGHTS), model / MODEL_WEIGHTS, metadata={"format": "pt"})


def _point_nowhere(model: Path) -> None:
    (model / MODEL_WEIGHTS).unlink()
    (model / MODEL_WEIGHTS).symlink_to("../../blobs/9a1b2f0c6d3e")


def _cut_below_tokenizer(model: Path) -> None:
    tensors = read_tensors(model)
    for name in (HEAD, EMBEDDINGS):
        tensors[name] = tensors[name][:759]
    write_tensors(model, tensors)
    setting(CONFIG, "text_config.vocab_size", 759)(model)


def _merged_in_first_shard(parent: Path) -> Bundle:
    model = copied(BASE, parent, "tuned-json")
    merging(JSON_ADAPTER, only=lambda name: name.startswith(tuple(f"{LANGUAGE_LAYERS}{one}." for one in (0, 1))))(model)
    return Bundle(model, merged_from=(BASE, JSON_ADAPTER))


TIED: Edit = all_of(
    without_tensors(HEAD),
    setting(CONFIG, "tie_word_embeddings", True),
    setting(CONFIG, "text_config.tie_word_embeddings", True),
)

CASES: tuple[Case, ...] = (
    Case(
        "norms_keep_the_plus_one_of_mlx",
        alone(on_tensors(_shift_norms), with_base=True),
        "A round trip through MLX adds 1 to the zero-centred RMSNorm weights and never takes it off again, so every "
        "norm doubles and the answers are noise (Blaizzy/mlx-vlm#1548)",
        ("norm.weight", "layernorm", "q_norm", "norms"),
    ),
    Case(
        "decay_rates_of_gguf_for_their_logarithms",
        alone(on_tensors(_keep_rates), with_base=True),
        "GGUF stores the decay of Gated DeltaNet as a negative rate instead of its logarithm; taken back as it is, the "
        "layers forget at another pace",
        ("A_log", "decay"),
    ),
    Case(
        "projections_fused_as_vllm_has_them",
        alone(on_tensors(_fuse_projections), MERGED),
        "The state of a serving engine was saved, which fuses the input projections of linear attention; the separate "
        "ones that transformers needs are missing and start at random (unslothai/unsloth#5845)",
        ("in_proj",),
    ),
    Case(
        "partitions_of_zero3_saved_ungathered",
        alone(on_tensors(_leave_empty), MERGED),
        "Rank 0 of ZeRO-3 saved its state without gathering, and what other ranks held has no elements "
        "(sediment1024/PhysRAG#3)",
        ("empty", "shape", "mlp", "down_proj", "gate_proj"),
    ),
    Case(
        "chunks_of_gate_and_up_misordered",
        alone(on_tensors(_misorder_chunks), with_base=True),
        "A checkpoint of fused gate and up projections from several GPUs is read on one in the wrong order of chunks; "
        "shapes fit, answers are gibberish (ROCm/Megatron-LM#63)",
        ("gate_proj", "up_proj", "mlp"),
    ),
    Case(
        "right_size_but_zeros_in_the_cache",
        alone(on_tensors(_zero_some)),
        "A damaged cache has the right size, yet the down projections of all but the first layer are zeros "
        "(paiml/aprender#2337)",
        ("down_proj", "zero"),
    ),
    Case(
        "unused_row_of_the_head_not_a_number",
        alone(on_tensors(_spoil_unused_row), with_base=True),
        "Merging tokenizers leaves NaN in the rows of unused tokens of the head, and the largest logit is that one "
        "(arcee-ai/mergekit#73)",
        ("lm_head", "NaN", "finite"),
    ),
    Case(
        "integers_without_their_quantization_config",
        alone(on_tensors(_keep_integers)),
        "Weights in 8 bits with scales, whose quantization_config somebody deleted to load them with a plain "
        "transformers; the integers are taken for weights (huggingface/transformers#47145)",
        ("weight_scale", "int8", "quantiz", "gate_proj", "up_proj", "down_proj"),
    ),
    Case(
        "head_dropped_as_if_it_were_tied",
        alone(TIED, with_base=True),
        "The converter of ZeRO checkpoints dropped the head, and the config was set to tie it to the embeddings, which "
        "this model was never trained with (deepspeedai/DeepSpeed#1896)",
        ("lm_head", "tie_word_embeddings", "tied"),
    ),
    Case(
        "vocabulary_cut_to_the_smaller_parent",
        alone(_cut_below_tokenizer),
        "A merge of two models takes the smaller vocabulary, and the last tokens, with which every answer begins, have "
        "no row (arcee-ai/mergekit#139)",
        ("vocab", "<think>", "</think>", "embed_tokens", "759"),
    ),
    Case(
        "part_of_the_names_from_a_compiled_module",
        alone(
            renamed(lambda name: name.replace("model.language_model.layers", "model.language_model._orig_mod.layers"))
        ),
        "Only the language model was compiled, and its tensors were saved with the wrapper's name within theirs; none "
        "of its layers is found (Lightning-AI/pytorch-lightning#20233)",
        ("_orig_mod", "language_model.layers"),
    ),
    Case(
        "older_single_file_beside_new_shards",
        said_to_merge(_leave_stale_file),
        "The merge was saved in shards into the folder of the model it came from; the old single file still lies there "
        "and is what is loaded, so nothing of the adapter is left (Blaizzy/mlx-vlm#1464)",
        ("model.safetensors", "index", "shard", "merge", "adapter"),
    ),
    Case(
        "weights_are_a_link_into_a_cache_left_behind",
        alone(_point_nowhere),
        "A snapshot of the hub's cache copied into an image with its links, which point to blobs that are not there "
        "(infiniflow/ragflow#3584)",
        ("model.safetensors", "link"),
    ),
    Case(
        "merge_script_stopped_after_the_first_shard",
        _merged_in_first_shard,
        "A hand-written merge goes through the first of two shards only; the later layers are still the base's and "
        "answers fall back to the base's manner",
        ("merge", "layers.2", "layers.3", "adapter"),
    ),
)
