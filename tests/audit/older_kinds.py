"""MiniCPM-V 2.6, 4.0 and 4.5: folders of a kind or version that is not served, or that do not say which they are.

Each function edits a copy of a tiny folder; only the check that it is registered with may find it.
"""

from typing import Any

from tests.audit.older_registry import broken, config, settings, tokenizer_config
from tests.builders import Folders


@broken("model_config", "version 2.5")
def the_version_is_one_that_is_not_served(folders: Folders) -> None:
    with config(folders) as document:
        document["version"] = 2.5


@broken("served_model", "MiniCPM-o is not served; of MiniCPM-V, 2.6, 4.0, 4.5, 4.6 and later are", "4.5")
def it_is_a_minicpm_o(folders: Folders) -> None:
    with config(folders) as document:
        document["model_type"], document["architectures"] = "minicpmo", ["MiniCPMO"]
        document["auto_map"] = {"AutoModel": "modeling_minicpmo.MiniCPMO"}
    with tokenizer_config(folders) as document:
        document["auto_map"] = {"AutoTokenizer": ["tokenization_minicpmo_fast.MiniCPMOTokenizerFast", None]}


@broken("served_model", "MiniCPM-o is not served", "4.5")
def it_is_a_minicpm_o_by_its_class_alone(folders: Folders) -> None:
    with config(folders) as document:
        document["architectures"], document["audio_config"] = ["MiniCPMO"], {"d_model": 32}


def early(document: dict[str, Any]) -> None:
    del document["version"]
    document["rope_scaling"] = None


@broken("served_model", "2.0 and 2.5 are not served, and this is one by a tower of type idefics2", "4.0")
def it_is_a_2_5(folders: Folders) -> None:
    with config(folders) as document:
        early(document)
        document["vision_config"]["model_type"] = "idefics2"
    with settings(folders) as document:
        document["version"] = 2.5


@broken("served_model", "one by a tower of type idefics2", "4.0")
def it_is_a_2_5_that_calls_itself_a_4_0(folders: Folders) -> None:
    it_is_a_2_5(folders)
    with config(folders) as document:
        document["version"] = 4.0


@broken("served_model", "one by version 2.5 in config.json", "4.0")
def it_is_a_2_5_that_says_so(folders: Folders) -> None:
    with config(folders) as document:
        early(document)
        document["version"] = "2.5"


@broken("served_model", "one by no vision_config (2.0)", "4.0")
def it_is_a_2_0(folders: Folders) -> None:
    with config(folders) as document:
        early(document)
        del document["vision_config"]


@broken("served_model", "this may be one", "4.0")
def nothing_tells_a_4_0_from_a_2_5(folders: Folders) -> None:
    with config(folders) as document:
        early(document)


@broken("model_config", "version 4.5, but the language part has neither norms", "4.0")
def a_later_version_is_written_over_tensors_that_could_be_a_2_5_s(folders: Folders) -> None:
    with config(folders) as document:
        early(document)
        document["version"] = 4.5


@broken("model_config", "the tensors of 4.5", "4.5")
def the_version_is_4_0_over_tensors_of_4_5(folders: Folders) -> None:
    with config(folders) as document:
        document["version"] = 4.0


@broken("files", "config.json is missing, so this is not a model folder", "4.5")
def the_config_is_lost_and_the_tokenizer_names_code(folders: Folders) -> None:
    (folders.base / "config.json").unlink()
    with tokenizer_config(folders) as document:
        document["auto_map"] = {"AutoTokenizer": ["tokenization_minicpmv_fast.MiniCPMVTokenizerFast", None]}


@broken("model_config", "no version")
def the_version_is_lost(folders: Folders) -> None:
    with config(folders) as document:
        del document["version"]


@broken("model_config", "4.5", "4.5")
def the_version_is_that_of_another_generation(folders: Folders) -> None:
    with config(folders) as document:
        document["version"] = 2.6
