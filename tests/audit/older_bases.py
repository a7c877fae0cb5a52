"""MiniCPM-V 2.6, 4.0 and 4.5: ways in which a base fails.

Each function edits a copy of a tiny folder; only the check that it is registered with may find it.
"""

import torch

from tests.audit.older_registry import (
    ROWS,
    TEMPLATE_4_5,
    TOWER_TABLE,
    broken,
    config,
    flag,
    forget_thoughts,
    noise,
    settings,
    surround,
)
from tests.audit.older_sound import quantisation_is_null
from tests.builders import Folders, edited_json, edited_tensors, read_json, token_id, write_json


@broken("picture_markers", "<image>")
def a_marker_is_not_special(folders: Folders) -> None:
    flag(folders, "<image>", special=False)


@broken("picture_markers", "<unk>", "4.0")
def the_placeholder_is_not_special(folders: Folders) -> None:
    flag(folders, "<unk>", special=False)


@broken("picture_markers", "</slice>: rstrip")
def a_marker_eats_the_line_break_between_rows(folders: Folders) -> None:
    flag(folders, "</slice>", rstrip=True)


@broken("picture_markers", "<image>: single_word")
def a_marker_is_found_between_spaces_only(folders: Folders) -> None:
    flag(folders, "<image>", single_word=True)


@broken("picture_markers", "names <img> as im_start")
def the_processor_names_a_marker_of_another_family(folders: Folders) -> None:
    with settings(folders) as document:
        document["im_start"] = "<img>"


@broken("picture_markers", "names </image> as im_start", "4.5")
def the_processor_exchanges_start_and_end(folders: Folders) -> None:
    with settings(folders) as document:
        document["im_start"], document["im_end"] = "</image>", "<image>"


@broken("picture_markers", "im_start and slice_start")
def two_roles_share_a_marker(folders: Folders) -> None:
    with settings(folders) as document:
        document["slice_start"] = "<image>"


@broken("picture_markers", "names the as unk")
def features_stand_on_an_ordinary_word(folders: Folders) -> None:
    with settings(folders) as document:
        document["unk"] = "the"


@broken("special_ids", "</slice>", "4.5")
def a_marker_is_lost(folders: Folders) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        path = folders.base / name
        path.write_text(path.read_text(encoding="utf-8").replace("</slice>", "</slicf>"), encoding="utf-8")


@broken("special_ids", "<unk>")
def the_placeholder_is_lost(folders: Folders) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        path = folders.base / name
        path.write_text(path.read_text(encoding="utf-8").replace("<unk>", "<unknown>"), encoding="utf-8")


@broken("chat_template", "no token (</think> and <think>); that of MiniCPM-V 2.6", severity="warning")
def the_template_is_that_of_4_5(folders: Folders) -> None:
    forget_thoughts(folders)
    (folders.base / "chat_template.jinja").write_text(TEMPLATE_4_5, encoding="utf-8")


@broken("chat_template", "a switch for thoughts; that of MiniCPM-V 4.0", "4.0", severity="warning")
def template_and_tokens_are_those_of_4_5(folders: Folders) -> None:
    (folders.base / "chat_template.jinja").write_text(TEMPLATE_4_5, encoding="utf-8")


@broken("chat_template", "every official vocabulary", "4.5")
def the_tokens_of_thoughts_are_lost(folders: Folders) -> None:
    forget_thoughts(folders)


@broken("minicpmv", "drop_vision_last_layer", severity="warning")
def nothing_says_whether_the_last_layer_counts(folders: Folders) -> None:
    with config(folders) as document:
        del document["drop_vision_last_layer"]


@broken("minicpmv", "num_hidden_layers is '2', not a whole number", "4.5")
def a_deciding_number_is_a_text(folders: Folders) -> None:
    with config(folders) as document:
        document["num_hidden_layers"] = str(document["num_hidden_layers"])


@broken("minicpmv", "vision_config is [], not an object")
def the_towers_sizes_are_no_object(folders: Folders) -> None:
    with config(folders) as document:
        document["vision_config"] = []


@broken("model_config", "rms_norm_eps", "4.0")
def a_text_stands_where_the_language_models_class_wants_a_number(folders: Folders) -> None:
    with config(folders) as document:
        document["rms_norm_eps"] = "1e-6"


@broken("model_config", "attention_dropout", "4.5")
def a_text_stands_where_the_towers_class_wants_a_number(folders: Folders) -> None:
    with config(folders) as document:
        document["vision_config"]["attention_dropout"] = "none"


@broken("weights_complete", "k_proj.bias", "4.5")
def biases_are_declared_that_no_file_holds(folders: Folders) -> None:
    with config(folders) as document:
        document["attention_bias"] = True


@broken("minicpmv", "lacks max_position_embeddings", "4.5")
def a_deciding_field_is_lost(folders: Folders) -> None:
    with config(folders) as document:
        del document["max_position_embeddings"]


@broken("minicpmv", "lacks rope_theta")
def the_rotary_base_is_lost(folders: Folders) -> None:
    with config(folders) as document:
        del document["rope_theta"]


@broken("minicpmv", "lacks vision_config")
def the_tower_is_not_described(folders: Folders) -> None:
    with config(folders) as document:
        del document["vision_config"]


@broken("minicpmv", "stand in text_config", "4.5")
def the_language_model_is_described_one_level_too_deep(folders: Folders) -> None:
    with config(folders) as document:
        names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "rope_theta")
        document["text_config"] = {name: document.pop(name) for name in names}


@broken("stop_set", "<|im_start|>, which opens turns (config.json: eos_token_id)", "4.5")
def config_json_ends_answers_where_turns_begin(folders: Folders) -> None:
    with config(folders) as document:
        document["eos_token_id"] = token_id(folders.base, "<|im_start|>")


@broken("stop_set", "<unk>, which stands for the features of a picture", "4.5")
def answers_end_at_the_placeholder_of_features(folders: Folders) -> None:
    stops_too(folders, "<unk>")


@broken("stop_set", "</slice>, which marks pictures", "4.0")
def answers_end_at_a_marker_of_pictures(folders: Folders) -> None:
    stops_too(folders, "</slice>")


def stops_too(folders: Folders, text: str) -> None:
    with edited_json(folders.base / "generation_config.json") as document:
        said = document["eos_token_id"]
        document["eos_token_id"] = [*(said if isinstance(said, list) else [said]), token_id(folders.base, text)]


@broken("special_ids", "which is <|im_end|> and ends turns", "4.5")
def pictures_stand_on_the_end_of_turns(folders: Folders) -> None:
    with config(folders) as document:
        document["image_token_id"] = token_id(folders.base, "<|im_end|>")


@broken("minicpmv", "rope_theta is 10000")
def the_rotary_base_is_a_default(folders: Folders) -> None:
    with config(folders) as document:
        document["rope_theta"] = 10000.0


@broken("minicpmv", "rope_theta is 10000", "4.5")
def the_rotary_base_is_lost_in_the_newer_spelling(folders: Folders) -> None:
    with config(folders) as document:
        document.pop("rope_theta")
        document["rope_parameters"] = {"rope_type": "default", "rope_theta": 10000.0}


@broken("minicpmv", "rope_theta is 5e+06", "4.5", severity="warning")
def the_rotary_base_was_made_larger_for_long_contexts(folders: Folders) -> None:
    with config(folders) as document:
        document["rope_theta"] = 5e6


@broken("minicpmv", "rope_scaling is linear with factor 4", "4.5")
def positions_are_squeezed(folders: Folders) -> None:
    with config(folders) as document:
        document["rope_scaling"] = {"rope_type": "linear", "factor": 4.0}


@broken("model_config", "see the last 16 tokens of 1024 (sliding_window)", "4.5")
def a_sliding_window_is_switched_on(folders: Folders) -> None:
    with config(folders) as document:
        document |= {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 0}


@broken("model_config", "1 layer(s) see the last 512 tokens of 1024 (sliding_window)", severity="warning")
def a_sliding_window_that_only_long_prompts_leave(folders: Folders) -> None:
    with config(folders) as document:
        layers = document["num_hidden_layers"]
        document |= {"use_sliding_window": True, "sliding_window": 512, "max_window_layers": layers - 1}


@broken("model_config", "scale_emb is 12", "4.0", severity="warning")
def embeddings_are_said_to_be_scaled(folders: Folders) -> None:
    with config(folders) as document:
        document["scale_emb"] = 12


@broken("model_config", "hidden_act is gelu", "4.5")
def the_activation_is_that_of_another_model(folders: Folders) -> None:
    with config(folders) as document:
        document["hidden_act"] = "gelu"


@broken("tokenizer_sound", "dropout of 0.1", "4.5")
def merges_are_left_out_at_random(folders: Folders) -> None:
    with edited_json(folders.base / "tokenizer.json") as document:
        document["model"]["dropout"] = 0.1


@broken("chat_template", "puts <|im_end|>", "4.5")
def the_tokenizer_ends_prompts(folders: Folders) -> None:
    surround(folders, "<|im_end|>", behind=True)


@broken("token_flags", "<|im_end|> takes '\\n'", "2.6")
def the_end_of_turns_swallows_the_line_break(folders: Folders) -> None:
    flag(folders, "<|im_end|>", rstrip=True)


@broken("token_flags", "<|im_start|> takes '\\n'", "4.0")
def the_start_of_turns_swallows_the_line_break(folders: Folders) -> None:
    flag(folders, "<|im_start|>", lstrip=True)


@broken("minicpmv", "rope_scaling is missing", "4.0", severity="warning")
def longrope_is_lost(folders: Folders) -> None:
    with config(folders) as document:
        document["rope_scaling"] = None


@broken("minicpmv", "long_factor 8", "4.0")
def longrope_is_of_another_head(folders: Folders) -> None:
    with config(folders) as document:
        scaling = document["rope_scaling"]
        scaling["long_factor"] = scaling["long_factor"][:8]


@broken("minicpmv", "vision_config.hidden_size 32")
def width_of_the_tower_is_not_shared_out_evenly(folders: Folders) -> None:
    with config(folders) as document:
        document["vision_config"]["num_attention_heads"] = 3


@broken("minicpmv", "resampler.query")
def the_queries_are_zero(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        tensors["resampler.query"].zero_()


@broken("minicpmv", "vpm.head")
def pooling_head_of_the_tower_was_saved_too(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        tensors["vpm.head.probe"] = torch.ones(1, 1, 32)


@broken("minicpmv", "projector.weight", "4.5")
def a_module_that_the_model_does_not_have(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        tensors["projector.weight"] = torch.ones(4, 4)


@broken("minicpmv", "norm_mean of preprocessor_config.json is 0.5")
def one_mean_for_all_colours(folders: Folders) -> None:
    with settings(folders) as document:
        document["norm_mean"] = 0.5


@broken("minicpmv", "no preprocessor_config.json")
def picture_settings_are_in_the_newer_file_only(folders: Folders) -> None:
    document = read_json(folders.base / "preprocessor_config.json")
    whole = {"processor_class": "MiniCPMVProcessor", "image_processor": document}
    write_json(folders.base / "processor_config.json", whole)
    (folders.base / "preprocessor_config.json").unlink()


@broken("minicpmv", "patches of 16 pixels", severity="warning")
def slices_are_cut_by_another_patch(folders: Folders) -> None:
    with config(folders) as document:
        document["slice_config"]["patch_size"] = 16


@broken("minicpmv", "scale_resolution is 7")
def slices_are_smaller_than_a_patch(folders: Folders) -> None:
    with settings(folders) as document:
        document["scale_resolution"] = 7


@broken("minicpmv", "scale_resolution is 224")
def slices_are_cut_at_half_the_scale(folders: Folders) -> None:
    with config(folders) as document:
        document["vision_config"]["image_size"] = 980
    with edited_tensors(folders.base_weights) as tensors:
        tensors[TOWER_TABLE] = noise(torch.empty(4900, 32))
    with settings(folders) as document:
        document["scale_resolution"] = 224


@broken("weights_complete", "resampler.query")
def both_files_agree_on_another_number_of_queries(folders: Folders) -> None:
    with config(folders) as document, settings(folders) as other:
        document["query_num"] = other["image_feature_size"] = 64


@broken("weights_complete", "resampler.query: stored [16, 128], needed [64, 128]", "4.5")
def the_model_is_said_to_have_more_features(folders: Folders) -> None:
    with config(folders) as document:
        document["query_num"] = 64


@broken("weights_complete", "resampler.query: stored [8, 128], needed [16, 128]", "4.5")
def queries_that_lost_rows(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        tensors["resampler.query"] = tensors["resampler.query"][:8].clone()


@broken("picture_settings", "max_slice_nums is 0 in config.json's slice_config", "4.5", severity="warning")
def no_slice_is_allowed(folders: Folders) -> None:
    with config(folders) as document:
        document["slice_config"]["max_slice_nums"] = 0


@broken("weights_complete", "position_embedding")
def the_table_of_positions_is_of_another_size(folders: Folders) -> None:
    with config(folders) as document:
        document["vision_config"]["image_size"] = 98


@broken("picture_settings", "64 features")
def the_processor_makes_room_for_more_features(folders: Folders) -> None:
    with settings(folders) as document:
        del document["image_feature_size"]


@broken("trained_rows", "<image_id>", severity="warning")
def the_marker_of_numbers_was_never_trained(folders: Folders) -> None:
    row = token_id(folders.base, "<image_id>")
    with edited_tensors(folders.base_weights) as tensors:
        tensors[ROWS][row] = 0


@broken("weights_complete", "resampler.ln_q.bias", "4.5")
def a_tensor_is_lost_and_quantisation_is_null(folders: Folders) -> None:
    quantisation_is_null(folders)
    with edited_tensors(folders.base / "model.safetensors") as tensors:
        del tensors["resampler.ln_q.bias"]


@broken("model_config", "self_attn.q_norm.weight", "4.5")
def norms_of_queries_and_keys_are_lost(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for name in [one for one in tensors if one.endswith(("self_attn.q_norm.weight", "self_attn.k_norm.weight"))]:
            del tensors[name]


@broken("picture_settings", "scale_resolution is 448", "4.5")
def pictures_are_cut_at_the_scale_of_another_tower(folders: Folders) -> None:
    with settings(folders) as document:
        document["scale_resolution"] = 448
