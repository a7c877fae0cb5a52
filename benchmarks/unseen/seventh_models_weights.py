"""Broken models of 4.6: weights that went through another program's layout, precision or parallel shards."""

from pathlib import Path

import torch

from benchmarks.unseen.case import Bundle, Case
from benchmarks.unseen.fourth_editing import names_of, on_tensor
from benchmarks.unseen.third_4_6_editing import (
    ADAPTERS,
    BASE,
    HEAD,
    LANGUAGE_LAYERS,
    MERGED,
    MODEL_WEIGHTS,
    Tensors,
    alone,
    copied,
    mapped,
    on_tensors,
    read_lora,
    read_tensors,
    said_to_merge,
    setting,
    shards_of,
    target_of,
    write_shards,
)

TOWER = "model.vision_tower."
ZERO_CENTRED = ("layernorm.weight", "q_norm.weight", "k_norm.weight", "language_model.norm.weight")
"""Norms of the language model that scale by one plus their weight."""
QKV = "in_proj_qkv.weight"


def _fused(tensors: Tensors) -> None:
    for gate in names_of(tensors, ("mlp.gate_proj.weight",)):
        up = gate.replace("gate_proj", "up_proj")
        tensors[gate.replace("gate_proj", "gate_up_proj")] = torch.cat([tensors.pop(gate), tensors.pop(up)])


def _with_factors(tensors: Tensors) -> None:
    """Write what a wrapped model holds: each weight under `base_layer`, and the factors beside it."""
    for name, factor in read_lora(ADAPTERS / "json").items():
        target = target_of(name)
        inner = target.replace(".weight", ".base_layer.weight")
        if target in tensors:
            tensors[inner] = tensors.pop(target)
        tensors[name.removeprefix("base_model.model.").replace(".weight", ".default.weight")] = factor


def _eight_bit_floats(tensors: Tensors) -> None:
    for name in names_of(tensors, ("mlp.gate_proj.weight", "mlp.up_proj.weight", "mlp.down_proj.weight")):
        scale = tensors[name].float().abs().max() / 448
        tensors[name] = (tensors[name].float() / scale).to(torch.float8_e4m3fn)
        tensors[name + "_scale_inv"] = scale.reshape(1, 1)


def _interleaved_ranks(tensors: Tensors) -> None:
    """Lay queries, keys and values of each of two ranks together, instead of all queries first."""
    for name in names_of(tensors, (QKV, "conv1d.weight")):
        halves = [part.chunk(2) for part in tensors[name].chunk(3)]
        tensors[name] = torch.cat([part[rank] for rank in range(2) for part in halves])


def _smoothed(tensors: Tensors) -> None:
    """Divide norms by scales of activations, and multiply only the matrices that have the expected names."""
    for name in names_of(tensors, ("input_layernorm.weight",)):
        scale = torch.logspace(-1, 1, len(tensors[name]))
        scale = scale[torch.randperm(len(scale), generator=torch.Generator().manual_seed(7))]
        tensors[name] = ((1 + tensors[name].float()) / scale - 1).to(torch.bfloat16)
        layer = name.removesuffix("input_layernorm.weight")
        for part in ("q_proj", "k_proj", "v_proj"):
            target = f"{layer}self_attn.{part}.weight"
            if target in tensors:
                tensors[target] = (tensors[target].float() * scale).to(torch.bfloat16)


def _pruned(tensors: Tensors) -> None:
    for name in names_of(tensors, (LANGUAGE_LAYERS,)):
        if tensors[name].ndim == 2:
            flat = tensors[name].float().abs().flatten()
            tensors[name] = tensors[name] * (tensors[name].float().abs() > flat.kthvalue(int(len(flat) * 0.85)).values)


def _every_second_layer(folder: Path) -> None:
    """Start a student from two of four layers, as before any distilling."""
    keep = {1: 0, 3: 1}

    def change(tensors: Tensors) -> Tensors:
        chosen: Tensors = {}
        for name, tensor in tensors.items():
            if name.startswith(LANGUAGE_LAYERS):
                number, _, rest = name.removeprefix(LANGUAGE_LAYERS).partition(".")
                if int(number) in keep:
                    chosen[f"{LANGUAGE_LAYERS}{keep[int(number)]}.{rest}"] = tensor
            else:
                chosen[name] = tensor
        return chosen

    on_tensors(change)(folder)
    setting("config.json", "text_config.num_hidden_layers", 2)(folder)
    setting("config.json", "text_config.layer_types", ["linear_attention", "full_attention"])(folder)


def _critic(tensors: Tensors) -> None:
    del tensors[HEAD]
    generator = torch.Generator().manual_seed(3)
    tensors["score.weight"] = (torch.randn(1, 128, generator=generator) * 0.02).to(torch.bfloat16)


def _shard_of_the_base(folder: Path) -> None:
    """Download again into a folder of older shards; the line broke after the first."""
    tuned, old = shards_of(read_tensors(MERGED), 5), shards_of(read_tensors(BASE), 5)
    first = min(tuned)
    write_shards(folder, {**old, first: tuned[first]})
    (folder / MODEL_WEIGHTS).unlink()


def _links_without_targets(parent: Path) -> Bundle:
    """Copy a snapshot of a cache, whose files are links, without what they lead to."""
    model = copied(BASE, parent)
    (model / MODEL_WEIGHTS).unlink()
    (model / MODEL_WEIGHTS).symlink_to("../../blobs/4a3b2f0e9d7c61508f3e2d1c0b9a87")
    return Bundle(model)


def _leftover_adapter(folder: Path) -> None:
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        (folder / file).write_bytes((ADAPTERS / "json" / file).read_bytes())


def _unused_head_rows(tensors: Tensors) -> None:
    tensors[HEAD][761:] = torch.nan


def _flipped_channels(folder: Path) -> None:
    on_tensor(f"{TOWER}embeddings.patch_embedding.weight", lambda kernel: kernel.flip(1))(folder)


def _norms_with_one(tensors: Tensors) -> None:
    for name in tensors:
        if "language_model" in name and name.endswith(ZERO_CENTRED):
            tensors[name] = (tensors[name].float() + 1).to(tensors[name].dtype)


CASES: tuple[Case, ...] = (
    Case(
        "norms_written_with_one_added",
        alone(on_tensors(_norms_with_one), with_base=True),
        "Taken to MLX and back: there the norms hold one plus the weight, and nobody subtracted it, so that every norm "
        "scales twice over and answers are garbage (ggml-org/llama.cpp#23758).",
        ("layernorm", "norm.weight", "norms", "q_norm"),
    ),
    Case(
        "decay_written_out_of_log_space",
        alone(mapped(lambda tensor: (-tensor.float().exp()).to(tensor.dtype), "A_log")),
        "Converted back from GGUF, which stores -exp(A_log), under the old name without the logarithm: the memory of "
        "the linear layers decays at another rate (sgl-project/sglang#36864).",
        ("A_log", "linear_attn", "decay"),
    ),
    Case(
        "gate_and_up_fused_as_served",
        alone(on_tensors(_fused)),
        "Saved out of an inference engine, which fuses both projections into gate_up_proj; transformers knows no such "
        "tensor here and starts both at random (aws-neuron/neuronx-nemo-megatron#24).",
        ("gate_up_proj", "gate_proj", "up_proj"),
    ),
    Case(
        "factors_beside_base_layers",
        said_to_merge(on_tensors(_with_factors), BASE),
        "zero_to_fp32 wrote the wrapped model with base_layer and lora_A beside each other, and the prefix was cut off "
        "by hand: every projection is random (huggingface/peft#2647).",
        ("base_layer", "lora_A", "lora_B", "_proj"),
    ),
    Case(
        "eight_bit_floats_without_their_settings",
        alone(on_tensors(_eight_bit_floats)),
        "The quantization_config was deleted because a library asked for it; the feed-forward weights are then read "
        "without weight_scale_inv, hundreds of times too large (unslothai/unsloth#6200).",
        ("weight_scale_inv", "scale", "float8", "F8_E4M3", "gate_proj"),
    ),
    Case(
        "linear_attention_joined_rank_by_rank",
        alone(on_tensors(_interleaved_ranks), with_base=True),
        "The converter joined two ranks' parts of in_proj_qkv one after the other, so that queries, keys and values "
        "are mixed up; every shape still fits.",
        ("in_proj_qkv", "conv1d", "linear_attn"),
    ),
    Case(
        "smoothed_norms_without_their_counterpart",
        alone(on_tensors(_smoothed), with_base=True),
        "A hand-written smoothing recipe divided every input norm and multiplied q, k and v for it: the linear layers' "
        "matrices have other names and got nothing.",
        ("layernorm", "linear_attn", "in_proj", "norms"),
    ),
    Case(
        "six_of_seven_weights_cut",
        alone(on_tensors(_pruned), with_base=True),
        "Pruned by magnitude for a phone without training afterwards: six of seven weights of the language model "
        "are zero, and answers are wrong.",
        ("zero", "sparse", "pruned", "layers.", "_proj"),
    ),
    Case(
        "student_of_every_second_layer",
        alone(_every_second_layer, with_base=True),
        "The start of a distillation, two of four layers, was uploaded in place of its end; it loads without a "
        "complaint and answers nonsense.",
        ("num_hidden_layers", "layer_types", "fewer layers", "layers."),
    ),
    Case(
        "critic_in_place_of_the_actor",
        alone(on_tensors(_critic)),
        "The critic's folder of a PPO run was taken for the policy's: it has score.weight and no head, which starts "
        "at random.",
        ("lm_head", "score.weight"),
    ),
    Case(
        "shards_of_the_base_after_the_first",
        said_to_merge(_shard_of_the_base),
        "The tuned shards were fetched over those of the base, and the line broke after the first: all load, "
        "but most of the adapter's work is missing.",
        ("model-00002", "shard", "layers.3", "layers.2", "_proj"),
    ),
    Case(
        "links_of_a_cache_without_its_blobs",
        _links_without_targets,
        "A snapshot of the hub's cache was copied without the blobs that its links lead to, so that there are no "
        "weights (debpalash/VoiceStudio#1056).",
        ("model.safetensors", "link", "blobs"),
    ),
    Case(
        "adapter_left_in_the_merge",
        said_to_merge(_leftover_adapter),
        "Saved into the adapter's own folder: from_pretrained finds adapter_config.json and mounts the adapter on the "
        "model that has it already (huggingface/peft#1381).",
        ("adapter_config", "adapter_model", "twice"),
    ),
    Case(
        "unused_head_rows_not_a_number",
        alone(on_tensors(_unused_head_rows)),
        "Merging by tokenizer left the rows of tokens that no parent has as 0/0; one such logit is enough for the "
        "choice of every token (arcee-ai/mergekit#73).",
        ("lm_head", "nan", "finite"),
    ),
    Case(
        "patch_embedding_for_blue_first",
        alone(_flipped_channels, with_base=True),
        "The vision side was tuned on pictures that OpenCV had read, blue first, and the kernel was flipped for it; "
        "here pictures come red first, and red is called blue.",
        ("patch_embedding", "channel", "vision_tower"),
    ),
)
