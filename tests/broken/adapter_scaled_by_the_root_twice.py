"""Combined adapters hold their scale in the factors; `use_rslora` was kept, so that the root counts twice."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json, edited_tensors

EXPECTED = Expected("adapter_lineage", "use_rslora", subject="adapter")


def make(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        scale = config["lora_alpha"] / config["r"]
        config |= {"lora_alpha": config["r"], "use_rslora": True}
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if ".lora_B" in one]:
            tensors[name] = tensors[name] * scale
