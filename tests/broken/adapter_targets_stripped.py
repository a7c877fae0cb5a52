"""Factors of the MLP were taken out of file and config; the model card still has axolotl's configuration."""

from tests.broken.expectation import Expected
from tests.builders import Folders, edited_json, edited_tensors

EXPECTED = Expected("adapter_lineage", "up_proj, down_proj", "adapter")
CARD = """\
---
library_name: peft
---
<details><summary>See axolotl config</summary>

axolotl version: `0.11.0`
```yaml
adapter: qlora
lora_model_dir:
lora_r: 8
lora_alpha: 16
lora_target_modules:
  - q_proj
  - v_proj
  - up_proj
  - down_proj
```

</details>
"""


def make(folders: Folders) -> None:
    (folders.adapter / "README.md").write_text(CARD, encoding="utf-8")
    lost = ("up_proj", "down_proj")
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if any(f".{part}." in one for part in lost)]:
            del tensors[name]
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["target_modules"] = [one for one in config["target_modules"] if one not in lost]
