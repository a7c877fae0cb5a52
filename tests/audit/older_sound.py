"""MiniCPM-V 2.6, 4.0 and 4.5: differences that change nothing.

Each function edits a copy of a tiny folder; no check may find it.
"""

import torch

from tests.audit.older_registry import (
    LOOSE,
    ROWS,
    TEMPLATE_4_5,
    config,
    dropped,
    flag,
    forget_thoughts,
    named,
    settings,
    sound,
    surround,
)
from tests.builders import PREFIX, Folders, edited_json, edited_tensors, read_json, shard, token_id


@sound()
def only_one_of_two_stop_tokens(folders: Folders) -> None:
    with edited_json(folders.base / "generation_config.json") as document:
        document["eos_token_id"] = document["eos_token_id"][0]


@sound("4.5")
def config_json_alone_names_a_stop_token(folders: Folders) -> None:
    (folders.base / "generation_config.json").unlink()


@sound("4.0")
def a_vocabulary_without_thoughts(folders: Folders) -> None:
    forget_thoughts(folders)


@sound()
def as_written_2_6(folders: Folders) -> None:
    pass


@sound("4.0")
def as_written_4_0(folders: Folders) -> None:
    pass


@sound("4.5")
def as_written_4_5(folders: Folders) -> None:
    pass


@sound("4.5")
def classes_of_remote_code(folders: Folders) -> None:
    with edited_json(folders.base / "tokenizer_config.json") as document:
        document["tokenizer_class"] = "MiniCPMVTokenizerFast"
        document["auto_map"] = {"AutoTokenizer": ["tokenization_minicpmv_fast.MiniCPMVTokenizerFast", None]}
    with settings(folders) as document:
        document["auto_map"] = {"AutoProcessor": "processing_minicpmv.MiniCPMVProcessor"}
    with config(folders) as document:
        document["auto_map"] = {"AutoModel": "modeling_minicpmv.MiniCPMV"}


@sound()
def saved_again_by_a_later_library(folders: Folders) -> None:
    with config(folders) as document:
        document["vision_config"]["model_type"] = "siglip_vision_model"
        document["dtype"] = document.pop("torch_dtype")
        document["transformers_version"] = "4.57.1"


@sound("4.5")
def rotary_numbers_in_the_newer_spelling(folders: Folders) -> None:
    with config(folders) as document:
        document["rope_parameters"] = {"rope_type": "default", "rope_theta": document.pop("rope_theta")}


@sound("4.0")
def longrope_in_the_newer_spelling(folders: Folders) -> None:
    with config(folders) as document:
        document["rope_parameters"] = {**document.pop("rope_scaling"), "rope_theta": document.pop("rope_theta")}


@sound("4.5")
def the_language_model_is_quantised(folders: Folders) -> None:
    with config(folders) as document:
        document["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    with edited_tensors(folders.base / "model.safetensors") as tensors:
        for name in [one for one in tensors if one.startswith("llm.model.layers") and one.endswith("_proj.weight")]:
            tensors[name] = torch.ones(tensors[name].numel() // 2, 1, dtype=torch.uint8)
            tensors[f"{name}.absmax"] = torch.ones(4)


@sound("4.5")
def a_sliding_window_that_is_not_switched_on(folders: Folders) -> None:
    with config(folders) as document:
        document |= {"use_sliding_window": False, "sliding_window": 16, "max_window_layers": 0}


@sound()
def a_sliding_window_that_no_layer_looks_through(folders: Folders) -> None:
    with config(folders) as document:
        document |= {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 28}


@sound("4.5")
def a_sliding_window_as_long_as_the_context(folders: Folders) -> None:
    with config(folders) as document:
        window = document["max_position_embeddings"]
        document |= {"use_sliding_window": True, "sliding_window": window, "max_window_layers": 0}


@sound("4.0")
def a_sliding_window_that_a_llama_does_not_know(folders: Folders) -> None:
    with config(folders) as document:
        document |= {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 0}


@sound("4.5")
def other_names_and_roundings_of_settings(folders: Folders) -> None:
    with config(folders) as document:
        document |= {"hidden_act": "swish", "rms_norm_eps": 1e-5, "scale_emb": 1}
        document["vision_config"] |= {"hidden_act": "gelu", "layer_norm_eps": 1e-5}


@sound("4.5")
def positions_beyond_the_context_are_scaled(folders: Folders) -> None:
    with config(folders) as document:
        document["rope_scaling"] = {"rope_type": "dynamic", "factor": 2.0}


@sound("4.0")
def the_tokenizer_starts_prompts(folders: Folders) -> None:
    surround(folders, "<|endoftext|>", behind=False)


@sound("2.6")
def no_dropout_spelled_as_a_number(folders: Folders) -> None:
    with edited_json(folders.base / "tokenizer.json") as document:
        document["model"]["dropout"] = 0.0


@sound("4.5")
def a_template_without_a_word_about_thinking_that_writes_the_empty_thought(folders: Folders) -> None:
    (folders.base / "chat_template.jinja").write_text(
        TEMPLATE_4_5.replace("{% if enable_thinking is defined and not enable_thinking %}", "{% if true %}"),
        encoding="utf-8",
    )


@sound("4.5")
def a_token_of_no_prompt_swallows_spaces(folders: Folders) -> None:
    flag(folders, "<|video_pad|>", lstrip=True, rstrip=True)


@sound("4.5")
def quantisation_is_null(folders: Folders) -> None:
    with config(folders) as document:
        document["quantization_config"] = None


@sound("4.5")
def version_is_text(folders: Folders) -> None:
    with config(folders) as document:
        document["version"] = "4.5"


@sound("4.0")
def version_is_whole(folders: Folders) -> None:
    with config(folders) as document:
        document["version"] = 4


@sound()
def defaults_are_left_out(folders: Folders) -> None:
    with config(folders) as document:
        del document["slice_config"], document["use_image_id"], document["tie_word_embeddings"]
    with settings(folders) as document:
        del document["use_image_id"], document["norm_mean"], document["norm_std"], document["im_start"]


@sound()
def stops_in_config_json(folders: Folders) -> None:
    path = folders.base / "generation_config.json"
    with config(folders) as document:
        document["eos_token_id"] = read_json(path)["eos_token_id"]
    path.unlink()


@sound("4.5")
def weights_in_shards(folders: Folders) -> None:
    shard(folders.base)


@sound("4.5")
def it_can_also_hear_and_speak(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        tensors["apm.layers.0.fc1.weight"] = torch.zeros(8, 8)
        tensors["tts.emb.weight"] = torch.ones(8, 8)


@sound()
def last_layer_of_the_tower_was_left_out_and_said_so(folders: Folders) -> None:
    with config(folders) as document:
        document["drop_vision_last_layer"] = True
    dropped(folders, "vpm")
    with edited_tensors(folders.base_weights) as tensors:
        for name in [one for one in tensors if "vpm.encoder.layers.1." in one]:
            del tensors[name]


@sound("4.0")
def the_placeholder_is_id_0(folders: Folders) -> None:
    """As in SentencePiece vocabularies; `!`, which the demo has there, takes the place of `~`."""
    with edited_json(folders.base / "tokenizer.json") as document:
        words, added = document["model"]["vocab"], document["added_tokens"]
        words["<unk>"], words["!"] = 0, words.pop("~")
        unk = next(one for one in added if one["content"] == "<unk>")
        document["added_tokens"] = [{**unk, "id": 0}, *(one for one in added if one is not unk)]
        document["model"]["merges"] = [one for one in document["model"]["merges"] if "~" not in "".join(one)]


@sound()
def row_of_the_placeholder_is_zero(folders: Folders) -> None:
    row = token_id(folders.base, "<unk>")
    with edited_tensors(folders.base_weights) as tensors:
        tensors[ROWS][row] = 0
    with edited_tensors(folders.adapter_weights) as tensors:
        tensors[PREFIX + ROWS][row] = 0


@sound("4.0")
def adapter_names_its_base(folders: Folders) -> None:
    named(folders, "openbmb/MiniCPM-V-4")


@sound()
def adapter_without_the_tower(folders: Folders) -> None:
    dropped(folders, "vpm")


@sound()
def a_pickle_repeats_the_file(folders: Folders) -> None:
    (folders.adapter / LOOSE).write_bytes(b"PK\x03\x04 never opened")


@sound()
def a_template_that_writes_the_place_of_a_picture(folders: Folders) -> None:
    (folders.base / "chat_template.jinja").write_text(
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
        "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for one in message['content'] %}"
        "{{ one['text'] if one['type'] == 'text' else '(<image>./</image>)' }}{% endfor %}{% endif %}"
        "{{ '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
        encoding="utf-8",
    )
