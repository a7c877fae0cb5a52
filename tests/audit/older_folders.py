"""MiniCPM-V 2.6, 4.0 and 4.5 in the official layout, with an adapter of the official script: ways of failing, and
differences that change nothing.

Each function edits a copy of a tiny folder; only the check that it is registered with may find it.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tests.builders import PREFIX, Folders, edited_json, edited_tensors, read_json, shard, token_id, write_json

Make = Callable[[Folders], None]
VERSIONS = ("2.6", "4.0", "4.5")
SAVED = ("embed_tokens", "resampler", "vpm")
ROWS, TOWER_TABLE = "llm.model.embed_tokens.weight", "vpm.embeddings.position_embedding.weight"
TEMPLATE_4_5 = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}"
    "{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}"
)
LOOSE = "vpm_resampler_embedtokens.pt"


@dataclass(frozen=True)
class Case:
    """What must be found, and of whom: `base` or `adapter`."""

    make: Make
    check: str
    named: str
    version: str
    subject: str
    severity: str


BROKEN: dict[str, Case] = {}
SOUND: dict[str, tuple[str, Make]] = {}


def broken(
    check: str, named: str, version: str = "2.6", subject: str = "base", severity: str = "fatal"
) -> Callable[[Make], Make]:
    def register(make: Make) -> Make:
        BROKEN[make.__name__] = Case(make, check, named, version, subject, severity)
        return make

    return register


def sound(version: str = "2.6") -> Callable[[Make], Make]:
    def register(make: Make) -> Make:
        SOUND[make.__name__] = (version, make)
        return make

    return register


def official(version: str, to: Path) -> Folders:
    """Write a tiny base, and an adapter as `finetune_lora.sh` leaves it."""
    from tests.engine import tiny

    return Folders(tiny.make(f"minicpm-v-{version}", to / "base"), official_adapter(to / "base", to / "adapter"))


def official_adapter(base: Path, folder: Path) -> Path:
    folder.mkdir()
    generator = torch.Generator().manual_seed(1)
    tensors: dict[str, torch.Tensor] = {}
    for name, one in load_file(base / "model.safetensors").items():
        module = PREFIX + name.removesuffix(".weight")
        if name.startswith("llm.") and ".self_attn." in name and name.endswith("_proj.weight"):
            tensors[f"{module}.lora_A.weight"] = torch.randn(4, one.shape[1], generator=generator) * 0.05
            tensors[f"{module}.lora_B.weight"] = torch.randn(one.shape[0], 4, generator=generator) * 0.02
        if any(f".{saved}." in f".{name}" for saved in SAVED):
            tensors[PREFIX + name] = one + 0.02 * torch.randn(one.shape, generator=generator) * (one.dim() > 1)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config: dict[str, Any] = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "lora_dropout": 0.05, "bias": "none"}
    config |= {"target_modules": r"llm\..*layers\.\d+\.self_attn\.(q_proj|k_proj|v_proj|o_proj)"}
    config |= {"modules_to_save": list(SAVED), "base_model_name_or_path": "/data/base", "task_type": None}
    remote = {"base_model_class": "MiniCPMV", "parent_library": "transformers_modules.v.modeling_minicpmv"}
    write_json(folder / "adapter_config.json", config | {"auto_mapping": remote})
    return folder


def copied(sources: Folders, to: Path) -> Folders:
    shutil.copytree(sources.base, to / "base")
    shutil.copytree(sources.adapter, to / "adapter")
    return Folders(to / "base", to / "adapter")


def config(folders: Folders) -> Any:
    return edited_json(folders.base / "config.json")


def settings(folders: Folders) -> Any:
    return edited_json(folders.base / "preprocessor_config.json")


def flag(folders: Folders, text: str, **flags: bool) -> None:
    with edited_json(folders.base / "tokenizer.json") as document:
        next(one for one in document["added_tokens"] if one["content"] == text).update(flags)


def saved(folders: Folders, change: Callable[[torch.Tensor], torch.Tensor], *modules: str) -> None:
    """Replace what the adapter saved of some modules."""
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if ".lora_" not in one and any(f".{part}." in one for part in modules)]:
            tensors[name] = change(tensors[name])


def dropped(folders: Folders, *modules: str) -> None:
    """Take saved modules out of the adapter's file and config."""
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if ".lora_" not in one and any(f".{part}." in one for part in modules)]:
            del tensors[name]
    with edited_json(folders.adapter / "adapter_config.json") as document:
        document["modules_to_save"] = [one for one in SAVED if one not in modules] or None


def noise(one: torch.Tensor) -> torch.Tensor:
    return torch.randn(one.shape, generator=torch.Generator().manual_seed(9)) * 0.1


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


def forget_thoughts(folders: Folders) -> None:
    """Rename the tokens of thoughts, which the demo's vocabulary has and those of 2.6 and 4.0 do not."""
    path = folders.base / "tokenizer.json"
    text = path.read_text(encoding="utf-8").replace('"<think>"', '"<|reserved_0|>"')
    path.write_text(text.replace('"</think>"', '"<|reserved_1|>"'), encoding="utf-8")


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


@broken("minicpmv", "version 2.5")
def the_version_is_one_that_is_not_served(folders: Folders) -> None:
    with config(folders) as document:
        document["version"] = 2.5


@broken("model_config", "no version")
def the_version_is_lost(folders: Folders) -> None:
    with config(folders) as document:
        del document["version"]


@broken("model_config", "4.5", "4.5")
def the_version_is_that_of_another_generation(folders: Folders) -> None:
    with config(folders) as document:
        document["version"] = 2.6


@broken("minicpmv", "rope_theta is 10000", severity="warning")
def the_rotary_base_is_a_default(folders: Folders) -> None:
    with config(folders) as document:
        document["rope_theta"] = 10000.0


@broken("minicpmv", "rope_theta is 10000", "4.5", severity="warning")
def the_rotary_base_is_lost_in_the_newer_spelling(folders: Folders) -> None:
    with config(folders) as document:
        document.pop("rope_theta")
        document["rope_parameters"] = {"rope_type": "default", "rope_theta": 10000.0}


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


@broken("minicpmv", "scale_resolution is 224", severity="warning")
def slices_are_cut_at_half_the_scale(folders: Folders) -> None:
    with config(folders) as document:
        document["vision_config"]["image_size"] = 980
    with edited_tensors(folders.base_weights) as tensors:
        tensors[TOWER_TABLE] = noise(torch.empty(4900, 32))
    with settings(folders) as document:
        document["scale_resolution"] = 224


@sound()
def only_one_of_two_stop_tokens(folders: Folders) -> None:
    with edited_json(folders.base / "generation_config.json") as document:
        document["eos_token_id"] = document["eos_token_id"][0]


@sound("4.5")
def config_json_alone_names_a_stop_token(folders: Folders) -> None:
    (folders.base / "generation_config.json").unlink()


@broken("weights_complete", "resampler.query")
def both_files_agree_on_another_number_of_queries(folders: Folders) -> None:
    with config(folders) as document, settings(folders) as other:
        document["query_num"] = other["image_feature_size"] = 64


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


@broken("saved_modules", "llm.model.embed_tokens", subject="adapter")
def embeddings_of_another_base(folders: Folders) -> None:
    saved(folders, noise, "embed_tokens")


@broken("saved_modules", "resampler.", "4.5", "adapter")
def resampler_of_another_base(folders: Folders) -> None:
    saved(folders, noise, "resampler")


@broken("saved_modules", "[2, 1, 0]", subject="adapter")
def tower_of_another_order_of_colours(folders: Folders) -> None:
    saved(folders, lambda one: one.flip(1) if one.dim() == 4 else one, "vpm")


@broken("saved_modules", "moved by", "4.5", "adapter")
def tower_with_positions_off_by_one(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        tensors[PREFIX + TOWER_TABLE] = tensors[PREFIX + TOWER_TABLE].roll(1, 0)


@broken("saved_modules", "opposite sign", "4.0", "adapter")
def norms_of_the_resampler_turned(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if "resampler.ln_" in one and one.endswith("weight")]:
            tensors[name] = -tensors[name]


@broken("finite_weights", "vpm.", "4.0", "adapter")
def tower_saved_as_zeros(folders: Folders) -> None:
    saved(folders, torch.zeros_like, "vpm")


@broken("saved_modules", LOOSE, subject="adapter")
def half_of_the_training_is_in_a_pickle(folders: Folders) -> None:
    dropped(folders, "vpm", "resampler")
    (folders.adapter / LOOSE).write_bytes(b"PK\x03\x04 never opened")


@broken("adapter_lineage", LOOSE, subject="adapter")
def all_whole_modules_are_in_a_pickle(folders: Folders) -> None:
    dropped(folders, *SAVED)
    (folders.adapter / LOOSE).write_bytes(b"PK\x03\x04 never opened")


@broken("adapter_lineage", "MiniCPM-o-2_6", subject="adapter", severity="warning")
def adapter_of_the_model_that_hears(folders: Folders) -> None:
    named(folders, "openbmb/MiniCPM-o-2_6")


@broken("adapter_lineage", "MiniCPM-V-4 ", "4.5", "adapter", "warning")
def adapter_of_4_on_4_5(folders: Folders) -> None:
    named(folders, "openbmb/MiniCPM-V-4")


@broken("adapter_lineage", "MiniCPM-Llama3-V-2_5", "2.6", "adapter", "warning")
def adapter_of_2_5_on_2_6(folders: Folders) -> None:
    named(folders, "openbmb/MiniCPM-Llama3-V-2_5")


@broken("adapter_applied", "resampler", subject="adapter")
def resampler_of_another_width(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if ".resampler." in one]:
            tensors[name] = noise(torch.empty([2 * size for size in tensors[name].shape]))


@broken("adapter_applied", "embed_tokens", "4.5", "adapter")
def embeddings_of_a_smaller_vocabulary(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        tensors[PREFIX + ROWS] = tensors[PREFIX + ROWS][:-20]


@broken("extra_tensors", "vpm", subject="adapter")
def tower_saved_but_for_a_layer(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if "vpm.encoder.layers.1." in one]:
            del tensors[name]


@broken("adapter_keys", "vpm.encoder.layers.2", "4.5", "adapter")
def tower_with_a_layer_more(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if "vpm.encoder.layers.1." in one]:
            tensors[name.replace("layers.1.", "layers.2.")] = tensors[name].clone()


def named(folders: Folders, base: str) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as document:
        document["base_model_name_or_path"] = base


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
def quantisation_is_null(folders: Folders) -> None:
    with config(folders) as document:
        document["quantization_config"] = None


@broken("weights_complete", "resampler.ln_q.bias", "4.5")
def a_tensor_is_lost_and_quantisation_is_null(folders: Folders) -> None:
    quantisation_is_null(folders)
    with edited_tensors(folders.base / "model.safetensors") as tensors:
        del tensors["resampler.ln_q.bias"]


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
        tensors["apm.layers.0.fc1.weight"] = torch.ones(8, 8)
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
