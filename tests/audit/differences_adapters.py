"""Harmless differences of adapters' configs and tensors, each a function that edits copies of the demo's folders.

Does not judge; `test_harmless.py` does.
"""

import torch
from safetensors.torch import load_file

from tests.audit.differences_registry import harmless
from tests.builders import (
    EMBEDDING,
    HEAD,
    PREFIX,
    Folders,
    edited_json,
    edited_tensors,
    rename_tensors,
    split_base,
    write_json,
)

ATTENTION = ("q_proj.weight", "k_proj.weight", "v_proj.weight")


@harmless(loaded="adapter")
def factors_drawn_alike_that_training_never_reached(folders: Folders) -> None:
    """Of a frozen tower, in a training that began each layer with one seed."""
    names = [one for one in load_file(folders.base_weights) if "vision_tower" in one and one.endswith(ATTENTION)]
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in names:
            module = PREFIX + name.removesuffix(".weight")
            first = torch.randn(8, 128, generator=torch.Generator().manual_seed(2))
            tensors |= {f"{module}.lora_A.weight": first, f"{module}.lora_B.weight": torch.zeros(128, 8)}
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["exclude_modules"] = None


@harmless(loaded="adapter")
def unknown_and_null_fields_in_the_adapter_config(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config |= {"eva_config": None, "corda_config": None, "a_field_of_tomorrow": None, "peft_version": "0.30.0"}
        config |= {"task_type": None, "inference_mode": False, "lora_dropout": 0.3, "megatron_core": None}


@harmless(loaded="adapter")
def base_path_of_another_machine(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["base_model_name_or_path"] = "/mnt/cluster7/users/x/models/base"
        config["revision"] = "main"
        config["auto_mapping"] = {"base_model_class": "X", "parent_library": "transformers_modules.x.modeling_x"}


@harmless(loaded="adapter")
def regex_of_target_modules(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        names = "|".join(config["target_modules"])
        config["target_modules"] = rf".*language_model\.layers\.\d+\..*({names})"


@harmless(loaded="adapter")
def target_modules_that_the_base_lacks(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["target_modules"] += ["gate_up_proj", "wqkv"]


@harmless(loaded="adapter")
def layers_without_factors(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if "layers.0." in one]:
            del tensors[name]
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["exclude_modules"] = r".*(vision_tower|layers\.0\.).*"


@harmless(loaded="adapter")
def some_factors_zero(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if "layers.1." in one and "up_proj.lora_B" in one]:
            tensors[name].zero_()


@harmless(loaded="adapter")
def one_rank_of_its_own(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if "q_proj" in one]:
            tensors[name] = tensors[name][:4] if "lora_A" in name else tensors[name][:, :4]
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["rank_pattern"] = {"q_proj": 4}


@harmless(loaded="adapter")
def keys_with_the_adapter_s_name(folders: Folders) -> None:
    rename_tensors(folders.adapter_weights, lambda name: name.replace(".weight", ".default.weight"))


@harmless(loaded="adapter")
def factors_in_float32(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for name, tensor in tensors.items():
            tensors[name] = tensor.float()


@harmless("official", loaded="adapter")
def both_names_of_the_embeddings_saved(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["modules_to_save"].append("model.embed_tokens")


@harmless("official", loaded="adapter")
def modules_to_save_that_the_base_lacks(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["modules_to_save"] += ["resampler", "classifier"]


@harmless("official", loaded="adapter")
def full_names_in_modules_to_save(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["modules_to_save"] = [EMBEDDING.removesuffix(".weight"), "merger"]


@harmless("official")
def biases_inside_saved_modules(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["bias"] = "all"


@harmless()
def files_of_the_trainer(folders: Folders) -> None:
    for name in ("training_args.bin", "optimizer.pt", "rng_state.pth", "README.md", "latest", "zero_to_fp32.py"):
        (folders.adapter / name).write_bytes(b"\x80\x04not opened")
    write_json(folders.adapter / "trainer_state.json", {"log_history": []})
    write_json(folders.adapter / "args.json", [1, 2])
    (folders.adapter / "global_step100").mkdir()
    (folders.base / ".git").mkdir()


@harmless("tokens", loaded="adapter")
def trained_ids_in_another_order(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        ids = config["trainable_token_indices"]
        ids["embed_tokens"] = ids["embed_tokens"][::-1]
    with edited_tensors(folders.adapter_weights) as tensors:
        name = next(one for one in tensors if "embed_tokens" in one)
        tensors[name] = tensors[name].flip(0)


@harmless("official")
def a_merger_trained_far(folders: Folders) -> None:
    generator = torch.Generator().manual_seed(0)
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if ".merger.mlp" in one and tensors[one].dim() == 2]:
            noise = torch.randn(tensors[name].shape, generator=generator)
            tensors[name] = (tensors[name].float() + 0.5 * tensors[name].float().std() * noise).to(tensors[name].dtype)


@harmless(loaded="adapter")
def parameters_named_one_by_one(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["target_modules"].remove("down_proj")
        config |= {"target_parameters": ["down_proj.weight", "experts.gate_up_proj"], "lora_dropout": 0.0}


@harmless()
def a_base_that_the_factors_were_cut_out_of(folders: Folders) -> None:
    """As PEFT's guide to PiSSA has it: the rest is the base, and the factors are said to have begun at zero."""
    parts = split_base(folders)
    with edited_tensors(folders.base_weights) as tensors:
        for module, (_, _, rest) in parts.items():
            tensors[f"{module}.weight"] = rest.to(tensors[f"{module}.weight"].dtype)
    with edited_tensors(folders.adapter_weights) as tensors:
        for module, (first, second, _) in parts.items():
            tensors[f"{PREFIX}{module}.lora_A.weight"] += first
            tensors[f"{PREFIX}{module}.lora_B.weight"] += second


@harmless(loaded="adapter")
def matrices_of_the_base_saved_along(folders: Folders) -> None:
    base = load_file(folders.base_weights)
    with edited_tensors(folders.adapter_weights) as tensors:
        tensors |= {f"{PREFIX}{EMBEDDING}": base[EMBEDDING].clone(), f"{PREFIX}{HEAD}": base[HEAD].float()}


@harmless(loaded="adapter")
def factors_trained_a_hundredth_as_far(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if "lora_B" in one]:
            tensors[name] = tensors[name].float() * 1e-2
