"""The config has the alpha of another run than the recipe of LLaMA-Factory beside it."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json

EXPECTED = Expected(
    "adapter_lineage", "training_args.yaml says lora_alpha 16, adapter_config.json lora_alpha 64", "adapter"
)
RECIPE = """\
### method
finetuning_type: lora
lora_rank: 8
lora_alpha: 16  # twice the rank
lora_target: all
additional_target: null
use_rslora: false
adapter_name_or_path:
"""


def make(folders: Folders) -> None:
    (folders.adapter / "training_args.yaml").write_text(RECIPE, encoding="utf-8")
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["lora_alpha"] = 64
