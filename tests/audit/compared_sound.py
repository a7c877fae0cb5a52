"""Sound edits of tuned folders, which the comparison with what they were made from must not flag.

Each function edits a copy of the demo's merged folder.
"""

import torch

from tests.audit.compared_registry import (
    KERNEL,
    ORIGIN,
    POSITIONS,
    READERS,
    cut_smallest,
    merge_into_rounded,
    order_neurons,
    scale_norms,
    sound,
    weights_of,
)
from tests.builders import (
    EMBEDDING,
    HEAD,
    Folders,
    edit_template,
    edited_json,
    edited_tensors,
    shard,
)


@sound("merge")
def merged_into_a_base_of_4_bits(folders: Folders) -> None:
    merge_into_rounded(folders, 4)


@sound("merge")
def merged_into_a_base_of_8_bits(folders: Folders) -> None:
    merge_into_rounded(folders, 8)


@sound()
def tuned_from_a_base_of_4_bits(folders: Folders) -> None:
    merge_into_rounded(folders, 4)


@sound()
def as_shipped(folders: Folders) -> None:
    assert folders.base.is_dir()


@sound("merge")
def merged_as_shipped(folders: Folders) -> None:
    assert folders.base.is_dir()


@sound("merge")
def in_float32(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        tensors |= {name: one.float() for name, one in tensors.items()}
    with edited_json(folders.base / "config.json") as config:
        config["dtype"] = "float32"


@sound()
def a_finished_conversation_without_the_last_line_break(folders: Folders) -> None:
    ending = "('' if loop.last and message.role == 'assistant' else '\\n')"
    edit_template(folders.base, "~ '<|im_end|>\\n' -}}", f"~ '<|im_end|>' ~ {ending} -}}}}")


@sound()
def tags_of_the_trainer(folders: Folders) -> None:
    edit_template(
        folders.base,
        "render_content(message.content) ~ '<|im_end|>\\n' -}}",
        "render_content(message.content) -}}{% generation %}{{- '<|im_end|>\\n' -}}{% endgeneration %}",
    )


@sound()
def the_tower_s_kernel_positions_and_norms_were_trained(folders: Folders) -> None:
    generator = torch.Generator().manual_seed(7)
    with edited_tensors(folders.base_weights) as tensors:
        for name in [one for one in tensors if one in (KERNEL, POSITIONS) or one.endswith("layer_norm1.weight")]:
            one = tensors[name].float()
            tensors[name] = (one + torch.randn(one.shape, generator=generator) * one.std() * 0.6).bfloat16()


@sound()
def pixels_scaled_by_mean_and_deviation(folders: Folders) -> None:
    with edited_json(folders.base / "processor_config.json") as document:
        document["image_processor"] |= {"do_rescale": False, "image_mean": [127.5] * 3, "image_std": [127.5] * 3}


@sound()
def fewer_frames_of_videos(folders: Folders) -> None:
    with edited_json(folders.base / "processor_config.json") as document:
        document["video_processor"]["max_num_frames"] = 32


@sound()
def in_float16(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        tensors |= {name: one.half() for name, one in tensors.items()}
    with edited_json(folders.base / "config.json") as config:
        config["dtype"] = "float16"


@sound("merge")
def in_shards(folders: Folders) -> None:
    shard(folders.base, 3)


@sound()
def one_matrix_tuned_hard(folders: Folders) -> None:
    name = "model.language_model.layers.3.self_attn.q_proj.weight"
    generator = torch.Generator().manual_seed(3)
    with edited_tensors(folders.base_weights) as tensors:
        one = tensors[name].float()
        tensors[name] = (one + torch.randn(one.shape, generator=generator) * one.std() * 0.8).bfloat16()


@sound()
def padded_to_a_multiple(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for name in (EMBEDDING, HEAD):
            tensors[name] = torch.cat([tensors[name], tensors[name].new_zeros(64, tensors[name].shape[1])])
    with edited_json(folders.base / "config.json") as config:
        config["text_config"]["vocab_size"] += 64


@sound()
def older_spelling_of_positions(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        text = config["text_config"]
        rope = text.pop("rope_parameters")
        text |= {name: rope.pop(name) for name in ("rope_theta", "partial_rotary_factor")}
        text["rope_scaling"] = rope


@sound()
def sampling_of_its_own(folders: Folders) -> None:
    with edited_json(folders.base / "generation_config.json") as config:
        config |= {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "repetition_penalty": 1.05}


@sound()
def a_bias_of_zeros_was_trained(folders: Folders) -> None:
    name = "model.merger.mlp.0.linear_2.bias"
    with edited_tensors(folders.base_weights) as tensors:
        tensors[name] = tensors[name] * 1.5


@sound()
def an_older_class_name_of_the_tokenizer(folders: Folders) -> None:
    with edited_json(folders.base / "tokenizer_config.json") as config:
        config |= {"tokenizer_class": "Qwen2TokenizerFast", "padding_side": "left", "add_bos_token": True}


@sound()
def norms_smoothed_into_all_matrices_that_read_them(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for kind in READERS:
            scale_norms(tensors, kind)


@sound()
def norms_folded_into_all_matrices_that_read_them(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for kind in ("input_layernorm", "post_attention_layernorm"):
            for name in [one for one in tensors if one.endswith(f".{kind}.weight")]:
                layer, ends = name.removesuffix(f"{kind}.weight"), tuple(f".{one}.weight" for one in READERS[kind])
                for matrix in [one for one in tensors if one.startswith(layer) and one.endswith(ends)]:
                    tensors[matrix] = (tensors[matrix].float() * (1 + tensors[name].float())).bfloat16()
                tensors[name] = torch.zeros_like(tensors[name])


@sound()
def a_factor_moved_from_one_projection_into_the_next(folders: Folders) -> None:
    pairs = (("up_proj", "down_proj"), ("v_proj", "o_proj"), ("v_proj", "out_proj"))
    with edited_tensors(folders.base_weights) as tensors:
        for first, last in pairs:
            for name in [one for one in tensors if one.endswith(f".{last}.weight") and "linear_attn" not in one]:
                if (other := name.replace(last, first)) in tensors:
                    tensors[name] = tensors[name] / 4
                    for part in (other, other.replace(".weight", ".bias")):
                        tensors |= {part: tensors[part] * 4} if part in tensors else {}


@sound()
def a_factor_of_each_channel_moved_from_one_projection_into_the_next(folders: Folders) -> None:
    generator = torch.Generator().manual_seed(2)
    with edited_tensors(folders.base_weights) as tensors:
        for name in [one for one in tensors if one.endswith((".up_proj.weight", "self_attn.v_proj.weight"))]:
            last = next(
                one
                for new in ("down_proj", "o_proj", "out_proj")
                if (one := name.replace("up_proj", new).replace("v_proj", new)) in tensors
            )
            factors = torch.exp(torch.randn(tensors[name].shape[0], generator=generator))
            tensors[name] = (tensors[name].float() * factors[:, None]).bfloat16()
            if (bias := name.replace(".weight", ".bias")) in tensors:
                tensors[bias] = (tensors[bias].float() * factors).bfloat16()
            heads = tensors[last].shape[1] // len(factors)
            columns = factors.view(-1, 64).repeat_interleave(heads, 0).ravel() if heads > 1 else factors
            tensors[last] = (tensors[last].float() / columns).bfloat16()


@sound()
def neurons_in_another_order(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        order_neurons(tensors, "gate_proj", "up_proj", "down_proj", "fc1", "fc2")


@sound()
def smoothed_multiplied_and_in_another_order(folders: Folders) -> None:
    norms_smoothed_into_all_matrices_that_read_them(folders)
    a_factor_of_each_channel_moved_from_one_projection_into_the_next(folders)
    neurons_in_another_order(folders)


@sound()
def most_weights_pruned_and_the_others_trained(folders: Folders) -> None:
    generator = torch.Generator().manual_seed(6)
    before = weights_of(ORIGIN)
    with edited_tensors(folders.base_weights) as tensors:
        tensors |= before
        cut_smallest(tensors, 0.7)
        for name in [one for one in tensors if not torch.equal(tensors[one], before[one])]:
            one = tensors[name].float()
            tensors[name] = (one * (1 + 0.03 * torch.randn(one.shape, generator=generator))).bfloat16()


@sound()
def a_third_of_the_weights_pruned(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        tensors |= weights_of(ORIGIN)
        cut_smallest(tensors, 0.33)


@sound()
def norms_trained_hard(folders: Folders) -> None:
    generator = torch.Generator().manual_seed(8)
    with edited_tensors(folders.base_weights) as tensors:
        for name in [one for one in tensors if "norm" in one and one.endswith(".weight")]:
            one = tensors[name].float()
            tensors[name] = (one + 0.1 * torch.randn(one.shape, generator=generator)).bfloat16()


@sound()
def norms_and_biases_trained_alone(folders: Folders) -> None:
    generator = torch.Generator().manual_seed(9)
    with edited_tensors(folders.base_weights) as tensors:
        tensors |= weights_of(ORIGIN)
        for name in [one for one in tensors if one.endswith(("norm.weight", ".bias"))]:
            one = tensors[name].float()
            step = 0.004 if name.endswith(".bias") else 0.04
            tensors[name] = (one + step * torch.randn(one.shape, generator=generator)).bfloat16()


@sound()
def norms_and_vocabulary_trained_together(folders: Folders) -> None:
    norms_and_biases_trained_alone(folders)
    generator = torch.Generator().manual_seed(11)
    with edited_tensors(folders.base_weights) as tensors:
        for name in (EMBEDDING, HEAD):
            one = tensors[name].float()
            tensors[name] = (one + 0.1 * one.std() * torch.randn(one.shape, generator=generator)).bfloat16()
