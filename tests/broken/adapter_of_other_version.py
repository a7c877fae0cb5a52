"""The adapter names another generation of the model as its base."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("adapter_lineage", "MiniCPM-V-2_6", "adapter", "warning")


def make(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["base_model_name_or_path"] = "openbmb/MiniCPM-V-2_6"
