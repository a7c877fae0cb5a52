"""Check of the kind of the model, before anything else: is it one that this service can serve at all.

Knows config.json, names of tensors, and what tells early versions.
"""

from collections.abc import Iterator

from service.audit.check import BaseView, Check, Outcome, fatal
from service.audit.older_minicpmv import config_of, early_signs, has_language_model, is_early, stored_version
from service.domain.facts import BaseFacts
from service.domain.minicpmv import NOT_SERVED, is_minicpm_o

WHY = """\
A MiniCPM-o has the language model, the tower and the resampler of a MiniCPM-V, and files of the same names. What is
judged of it as if it were one (its class, its tokenizer's code, its tensors for hearing and speaking) reads like faults
that could be corrected, and none is: it is another model. So this is said first and alone.

MiniCPM-V 2.0 and 2.5 number patches and mark slices in another way. Their config.json names no version, and writing one
that is served makes a folder that loads and answers nonsense. 2.0 has no `vision_config`, a tower with the names of
timm's (`vpm.blocks`) and a `hidden_size` of 2304; 2.5 has a tower of type `idefics2`, 96 queries, a
preprocessor_config.json of version 2.5 and Llama 3's tokens (`<|eot_id|>`). Among those that are served, 2.6 has biases
(`llm...q_proj.bias`), 4.5 norms of queries (`q_norm`), and 4.0 longrope as its `rope_scaling`. Where a version is
missing and none of this is there, the folder is refused: what it is, only its origin can tell."""

OTHER_WAYS = "Loading is refused: they number patches and mark slices in another way."
HOW_TO_TELL = (
    "2.0 has no vision_config and a tower named vpm.blocks, 2.5 a tower of type idefics2, 96 queries and <|eot_id|>; "
    "4.0 has a rope_scaling of longrope, 2.6 biases of q_proj, 4.5 q_norm."
)


def base_served_model(view: BaseView) -> Iterator[Outcome]:
    """Refuse a model of a kind that this service does not serve, whatever else could be said of its files."""
    config = view.base.documents.get("config.json", {})
    if is_minicpm_o(config):
        named = {key: config.get(key) for key in ("model_type", "architectures", "version") if config.get(key)}
        yield fatal(
            NOT_SERVED,
            named,
            "Loading is refused. Nothing else was judged, as it would be judged as another model.",
            "Serve it with software for MiniCPM-o, such as vLLM, or serve the MiniCPM-V of the same generation here.",
        )
        return
    if config_of(view.base):
        yield from _early_version(view.base)


def _early_version(base: BaseFacts) -> Iterator[Outcome]:
    """Refuse 2.0 and 2.5, and what could be one of them."""
    config = config_of(base)
    signs, version = early_signs(base), config.get("version")
    is_proved = stored_version(base.tensors, config) is not None
    if is_proved or not (signs or is_early(config) or (version is None and has_language_model(base))):
        return
    if signs or is_early(config):
        said = [f"version {version} in config.json", *signs] if is_early(config) else signs
        yield fatal(
            f"MiniCPM-V 2.0 and 2.5 are not served, and this is one by {', '.join(said)}",
            {"signs": said, "version": version},
            OTHER_WAYS + " Nothing else was judged.",
            "Serve it with vLLM 0.32, or serve MiniCPM-V 2.6 or later here. " + HOW_TO_TELL,
        )
    else:
        yield fatal(
            "MiniCPM-V 2.0 and 2.5 are not served, and this may be one: config.json names no version, and the tensors "
            "are those of 2.0, 2.5 and 4.0 alike",
            {"version": None},
            OTHER_WAYS + " Nothing else was judged, as it depends on the version.",
            f"{HOW_TO_TELL} If it is a 4.0, take config.json from the official checkpoint that it was made of.",
        )


CHECK = Check(
    "served_model",
    "The model is of a kind that is served",
    base_served_model,
    is_decisive=True,
    why=WHY,
)
