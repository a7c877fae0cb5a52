"""What a trainer wrote down about the run that an adapter came from.

Knows no rule; the values are the folder's own words.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Recipe:
    """The arguments of one run that decide what an adapter does.

    Attributes:
        file: Where they stand.
        values: By PEFT's name of the setting: `r` and `lora_alpha` numbers, `use_rslora` and `use_dora` true or false,
            `target_modules` and `modules_to_save` tuples of plain names, `base_model_name_or_path` a text. What the
            file leaves open is left out.
        names: What the file calls each of them.
        is_continued: The run began with another adapter, whose settings PEFT keeps in place of these.
    """

    file: str
    values: Mapping[str, Any]
    names: Mapping[str, str]
    is_continued: bool = False
