"""Ways of failing of tuned folders that only the comparison with what they were made from shows.

Each function edits a copy of the demo's merged folder.
"""

import shutil

import torch

from service.demo import demo_root
from tests.audit.compared_registry import (
    KERNEL,
    ORIGIN,
    POSITIONS,
    broken,
    cut_smallest,
    exact_update,
    merge_into_rounded,
    order_neurons,
    scale_norms,
    scale_update,
    to_bits,
    weights_of,
)
from tests.builders import (
    EMBEDDING,
    HEAD,
    Folders,
    add_token,
    declare_tie,
    edit_template,
    edited_json,
    edited_tensors,
)


@broken("trained_rows", "a fresh random one")
def new_rows_are_fresh_random_ones(folders: Folders) -> None:
    generator = torch.Generator().manual_seed(0)
    ids = [add_token(folders.base, token) for token in ("<box>", "</box>", "<ref>", "</ref>")]
    with edited_tensors(folders.base_weights) as tensors:
        for name in (EMBEDDING, HEAD):
            shape = (len(ids), tensors[name].shape[1])
            tensors[name][ids] = (0.02 * torch.randn(shape, generator=generator)).to(tensors[name].dtype)


@broken("row_health", "but what all rows share")
def halves_of_the_head_are_swapped(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        tensors[HEAD] = torch.cat([tensors[HEAD][416:], tensors[HEAD][:416]])


@broken("origin", "hold the same number throughout")
def norms_are_reset(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for name in [one for one in tensors if "input_layernorm" in one]:
            tensors[name] = torch.zeros_like(tensors[name])


@broken("merge", "nothing was merged", "merge")
def only_the_base_was_saved(folders: Folders) -> None:
    scale_update(folders, 0)


@broken("merge", "2 times instead of once", "merge")
def merged_twice(folders: Folders) -> None:
    scale_update(folders, 2)


@broken("merge", "0.5 times instead of once", "merge")
def scaled_wrongly(folders: Folders) -> None:
    scale_update(folders, 0.5)


@broken("merge", "partly merged", "merge")
def half_of_the_layers_merged(folders: Folders) -> None:
    before = weights_of(ORIGIN)
    with edited_tensors(folders.base_weights) as tensors:
        tensors |= {name: one for name, one in before.items() if "mlp" in name}


@broken("merge", "does not touch", "merge")
def something_else_merged_too(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        name = next(one for one in tensors if one.endswith("vision_tower.encoder.layers.0.mlp.fc1.weight"))
        tensors[name] *= 1.5


@broken("origin", "tuning changed nothing", severity="warning")
def nothing_was_tuned(folders: Folders) -> None:
    scale_update(folders, 0)


@broken("origin", "nothing in common")
def head_replaced_by_noise(folders: Folders) -> None:
    torch.manual_seed(0)
    with edited_tensors(folders.base_weights) as tensors:
        name = next(one for one in tensors if one.endswith("layers.1.mlp.down_proj.weight"))
        tensors[name] = torch.randn_like(tensors[name].float()).to(tensors[name].dtype)


@broken("origin", "opposite sign")
def signs_of_norms_are_turned(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for name in [one for one in tensors if one.endswith("layer_norm1.weight")]:
            tensors[name] = -tensors[name]


@broken("origin", "[2, 1, 0]")
def red_and_blue_change_places(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        tensors[KERNEL] = tensors[KERNEL].flip(1)


@broken("origin", "moved by 1")
def rows_of_positions_are_off_by_one(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        tensors[POSITIONS] = tensors[POSITIONS].roll(-1, 0)


@broken("origin", "to other places")
def rows_and_columns_of_positions_change_places(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        table = tensors[POSITIONS]
        side = int(len(table) ** 0.5)
        tensors[POSITIONS] = table.view(side, side, -1).transpose(0, 1).reshape(table.shape)


@broken("origin", "rope_theta")
def rotary_base_changed(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        config["text_config"]["rope_parameters"]["rope_theta"] = 1_000_000.0


@broken("origin", "rms_norm_eps", severity="warning")
def norm_epsilon_changed(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        config["text_config"]["rms_norm_eps"] = 1e-2


@broken("picture_settings", "image_mean")
def pictures_normalised_otherwise(folders: Folders) -> None:
    with edited_json(folders.base / "processor_config.json") as document:
        document["image_processor"] |= {"image_mean": [0, 0, 0], "image_std": [1, 1, 1]}


@broken("origin", "scale_resolution")
def pictures_made_smaller(folders: Folders) -> None:
    with edited_json(folders.base / "processor_config.json") as document:
        document["image_processor"]["scale_resolution"] = 56


@broken("origin", "max_slice_nums 1 became 9")
def pictures_cut_into_slices_that_training_never_saw(folders: Folders) -> None:
    with edited_json(folders.base / "processor_config.json") as document:
        document["image_processor"]["max_slice_nums"] = 9


@broken("origin", "use_image_id", severity="warning")
def pictures_not_numbered(folders: Folders) -> None:
    with edited_json(folders.base / "processor_config.json") as document:
        document["image_processor"]["use_image_id"] = False


@broken("origin", "video.scale_resolution", severity="warning")
def videos_made_larger(folders: Folders) -> None:
    with edited_json(folders.base / "processor_config.json") as document:
        document["video_processor"]["scale_resolution"] = 448


@broken("chat_template", "line breaks")
def line_break_behind_turns_lost(folders: Folders) -> None:
    edit_template(folders.base, "<|im_end|>\\n'", "<|im_end|>'")


@broken("chat_template", "picture", severity="warning")
def line_break_behind_pictures(folders: Folders) -> None:
    edit_template(folders.base, "'<|image_pad|>'", "'<|image_pad|>\\n'")


@broken("chat_template", "line breaks")
def line_break_behind_the_role_is_a_space(folders: Folders) -> None:
    edit_template(folders.base, "message.role ~ '\\n'", "message.role ~ ' '")


@broken("origin", "self_attn.q_proj")
def rows_of_a_matrix_in_the_order_of_another_framework(folders: Folders) -> None:
    """As conversions turn rotary halves into pairs; one matrix is left as it was."""
    name = "model.language_model.layers.3.self_attn.q_proj.weight"
    with edited_tensors(folders.base_weights) as tensors:
        one = tensors[name]
        tensors[name] = one.view(4, 2, 32, -1).transpose(1, 2).reshape(one.shape).contiguous()


@broken("origin", "linear_attn.in_proj_qkv")
def a_third_of_a_joined_matrix_not_filled_in(folders: Folders) -> None:
    """Values of the joined projection were never copied when it was put together."""
    name = "model.language_model.layers.1.linear_attn.in_proj_qkv.weight"
    generator = torch.Generator().manual_seed(3)
    with edited_tensors(folders.base_weights) as tensors:
        one = tensors[name].float()
        one[256:] = torch.randn(one[256:].shape, generator=generator) * one[256:].std()
        tensors[name] = one.bfloat16()


@broken("tokenizer_unchanged", "merges differ")
def two_merges_exchanged(folders: Folders) -> None:
    with edited_json(folders.base / "tokenizer.json") as document:
        merges = document["model"]["merges"]
        merges[-1], merges[-9] = merges[-9], merges[-1]


@broken("tokenizer_unchanged", "in front of a text", severity="warning")
def a_start_token_added(folders: Folders) -> None:
    with edited_json(folders.base / "tokenizer.json") as document:
        token = document["added_tokens"][0]
        processor = document["post_processor"]
        processor["single"].insert(0, {"SpecialToken": {"id": token["content"], "type_id": 0}})
        entry = {"id": token["content"], "ids": [token["id"]], "tokens": [token["content"]]}
        processor["special_tokens"] = {token["content"]: entry}


@broken("token_flags", "<|im_end|>")
def flag_lost(folders: Folders) -> None:
    with edited_json(folders.base / "tokenizer.json") as document:
        next(one for one in document["added_tokens"] if one["content"] == "<|im_end|>")["special"] = False


@broken("chat_template", "renders", severity="warning")
def a_system_prompt_of_the_trainer(folders: Folders) -> None:
    path = folders.base / "chat_template.jinja"
    system = "{{- '<|im_start|>system\\nYou are helpful. 你很有用。<|im_end|>\\n' -}}"
    path.write_text(system + path.read_text(encoding="utf-8"), encoding="utf-8")


@broken("chat_template", "renders", "merge")
def a_template_that_neither_origin_nor_adapter_has(folders: Folders) -> None:
    edit_template(folders.base, "{{- '<think>\\n\\n</think>\\n\\n' -}}", "")


@broken("origin", "takes the embeddings for it")
def head_left_out_and_declared_tied(folders: Folders) -> None:
    declare_tie(folders, is_tied=True)
    with edited_tensors(folders.base_weights) as tensors:
        del tensors[HEAD]


@broken("origin", "8 of the 8 matrices that read them do not hold the inverse")
def norms_divided_and_their_matrices_not_multiplied(folders: Folders) -> None:
    shutil.copyfile(demo_root() / "base" / "model.safetensors", folders.base_weights)
    generator = torch.Generator().manual_seed(5)
    with edited_tensors(folders.base_weights) as tensors:
        for name in [one for one in tensors if one.endswith("post_attention_layernorm.weight")]:
            one = tensors[name].float()
            scale = torch.exp(torch.randn(one.shape, generator=generator))
            tensors[name] = ((1 + one) / scale - 1).bfloat16()  # this kind of norm multiplies by one more


@broken("trained_rows", "<stamp>")
def a_new_token_without_training(folders: Folders) -> None:
    add_token(folders.base, "<stamp>")


@broken("merge", "instead of once", "merge")
def merged_twice_into_a_rounded_base(folders: Folders) -> None:
    merge_into_rounded(folders, 8, factor=2)


@broken("merge", "not origin plus update", "merge")
def merged_into_a_base_that_was_tuned_further(folders: Folders) -> None:
    generator = torch.Generator().manual_seed(5)
    with edited_tensors(folders.base_weights) as tensors:
        for name in [one for one in tensors if ".language_model.layers." in one and one.endswith("proj.weight")]:
            one = tensors[name].float()
            tensors[name] = (one + torch.randn(one.shape, generator=generator) * one.std() * 0.1).bfloat16()


@broken("merge", "rounded to 4 bits after merging", "merge", severity="warning")
def rounded_after_merging(folders: Folders) -> None:
    changed = {name for name, one in weights_of(ORIGIN).items() if not torch.equal(one, weights_of(folders.base)[name])}
    with edited_tensors(folders.base_weights) as tensors:
        for name in [one for one in tensors if one in changed and tensors[one].numel() >= 4096]:
            tensors[name] = to_bits((weights_of(ORIGIN)[name].float() + exact_update(name)), 4).bfloat16()


@broken("origin", "norm(s) differ from the origin's by up to 1.00 of their length")
def a_norm_doubled_that_no_known_matrix_reads(folders: Folders) -> None:
    shutil.copyfile(demo_root() / "base" / "model.safetensors", folders.base_weights)
    with edited_tensors(folders.base_weights) as tensors:
        for name in [one for one in tensors if one.endswith("post_layernorm.weight")]:
            tensors[name] = tensors[name] * 2


@broken("origin", "while every matrix but those of the vocabulary is the origin's")
def a_norm_doubled_beside_rows_that_were_trained(folders: Folders) -> None:
    a_norm_doubled_that_no_known_matrix_reads(folders)
    generator = torch.Generator().manual_seed(10)
    with edited_tensors(folders.base_weights) as tensors:
        for name in (EMBEDDING, HEAD):
            noise = torch.randn(tensors[name].shape, generator=generator)
            tensors[name] = (tensors[name].float() + 0.05 * tensors[name].float().std() * noise).bfloat16()


@broken("origin", "of the 12 matrices that read them do not hold the inverse: model.language_model.layers.")
def norms_smoothed_for_queries_keys_and_values_alone(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        scale_norms(tensors, "input_layernorm", ("in_proj_qkv", "in_proj_z", "in_proj_a", "in_proj_b"))


@broken("origin", "up_proj")
def norms_smoothed_a_little_and_one_matrix_left_out(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        scale_norms(tensors, "post_attention_layernorm", ("up_proj",), spread=0.15)


@broken("origin", "layer_norm2")
def norms_of_the_tower_smoothed_and_nothing_behind_them(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        scale_norms(tensors, "layer_norm2", ("fc1",))


@broken("origin", "multiplied by a number")
def a_factor_given_back_only_in_part(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for name in [one for one in tensors if one.endswith("mlp.up_proj.weight")]:
            tensors[name] = tensors[name] * 4
            tensors[name.replace("up_proj", "down_proj")] /= 2


@broken("origin", "neurons in other places in one matrix than in the next")
def neurons_in_another_order_but_what_comes_down(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        order_neurons(tensors, "gate_proj", "up_proj")


@broken("origin", "alone)")
def neurons_in_another_order_where_they_come_down_alone(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        order_neurons(tensors, "down_proj")


@broken("origin", "each in an order of its own")
def neurons_in_three_orders(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for part in ("gate_proj", "up_proj", "up_proj", "down_proj", "down_proj", "down_proj"):
            order_neurons(tensors, part)


@broken("origin", "80% and more of the values are zero")
def most_weights_pruned_and_nothing_trained(folders: Folders) -> None:
    shutil.copyfile(demo_root() / "base" / "model.safetensors", folders.base_weights)
    with edited_tensors(folders.base_weights) as tensors:
        cut_smallest(tensors, 0.8)


@broken("origin", "of the values are zero", severity="warning")
def half_of_the_weights_pruned_and_nothing_trained(folders: Folders) -> None:
    shutil.copyfile(demo_root() / "base" / "model.safetensors", folders.base_weights)
    with edited_tensors(folders.base_weights) as tensors:
        cut_smallest(tensors, 0.5)


@broken("origin", "1 tensor(s) have rows that have nothing in common")
def neurons_in_another_order_and_a_part_of_a_matrix_made_up(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        order_neurons(tensors, "gate_proj", "up_proj", "down_proj", "fc1", "fc2")
        gate = tensors[next(one for one in tensors if one.endswith("layers.1.mlp.gate_proj.weight"))]
        made_up = gate[: 2 * len(gate) // 5]
        made_up.copy_(gate.float().std() * torch.randn(made_up.shape, generator=torch.Generator().manual_seed(3)))
