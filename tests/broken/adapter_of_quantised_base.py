"""The adapter was trained on a base in 4 bits."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected("adapter_lineage", "int4", "adapter", "warning")


def make(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["base_model_name_or_path"] = "openbmb/MiniCPM-V-4_6-int4"
