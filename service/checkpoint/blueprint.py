"""Asks a model's own class which parameters it wants, and lays that over the tensors that the files declare.

Loads no weight: the class is built on the `meta` device, and `from_pretrained` is given tensors without memory. So
transformers itself renames, ties and compares, exactly as it does when the model is served.
"""

import gc
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Self

from service.checkpoint.minicpmv import minicpmv_blueprint
from service.domain import minicpmv
from service.domain.facts import BlueprintFacts, TensorFacts
from service.domain.minicpmv import MODEL_TYPE as MINICPMV
from service.wording import without_folders

MAX_SECONDS = 60.0
"""Building takes a tenth of a second for most models, after two seconds of imports."""
COUNTS = re.compile(r"(layers?|experts?|blocks?|depths?|times|stages?)$")
MAX_COUNT = 2000
"""Of layers and the like, each of which becomes a Python object."""
FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
VALUES_KEPT = (str, int, float, bool, type(None))


class Blueprint:
    """A blueprint that a new process makes beside other work, if this one does without torch; if not, one of a thread.

    Args:
        config: `config.json`.
        tensors: What the files' headers declare.
    """

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, TensorFacts]) -> None:
        self._config, self._tensors = config, tensors
        is_torch_kept_out = "torch" in sys.modules and sys.modules["torch"] is None
        is_quick = not isinstance(config.get("model_type"), str)
        self._process = _Process(config, tensors) if is_torch_kept_out and not is_quick else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """End the process if nobody waited for it: the command may end without saying so to anyone."""
        if self._process:
            self._process.end()

    def wait(self) -> BlueprintFacts | None:
        """Return the facts; None if nothing certain can be said, or not soon."""
        if self._process:
            return self._process.wait()
        made: list[BlueprintFacts | None] = []
        thread = threading.Thread(
            target=lambda: made.append(read_blueprint(self._config, self._tensors)), name="blueprint", daemon=True
        )
        thread.start()
        thread.join(MAX_SECONDS)
        return made[0] if made else None


class _Process:
    """A new process that reads a blueprint, and is ended if it takes too long.

    Knows nothing of the program that this one runs: `multiprocessing` would run a script of someone's once more.
    """

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, TensorFacts]) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        try:
            request = pickle.dumps((config, tensors))
        except RecursionError:  # nested so deeply that a thread could say nothing either
            return
        code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import answer; answer()"
        self._process = subprocess.Popen(  # noqa: S603 - this very interpreter
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdin is not None  # noqa: S101 - a pipe was asked for
        with suppress(BrokenPipeError):  # it has ended already, which its status says
            self._process.stdin.write(request)
            self._process.stdin.flush()

    def wait(self) -> BlueprintFacts | None:
        if self._process is None:
            return None
        try:
            said, _ = self._process.communicate(timeout=MAX_SECONDS)
        except subprocess.TimeoutExpired:
            self.end()
            return None
        status = self._process.returncode
        if status == -signal.SIGKILL:  # for want of memory, most likely, which is no fault of the folder
            return None
        if status:
            return BlueprintFacts("transformers", problem=f"building the model ended the process with status {status}")
        made: BlueprintFacts | None = pickle.loads(said)  # noqa: S301 - of a process of our own
        return made

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()


def answer() -> None:
    """Read a config and tensors from standard input, write the blueprint to standard output and end the process."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # whoever asks says that it was interrupted
    signal.alarm(int(2 * MAX_SECONDS))  # the end, if whoever asks is not there any more
    gc.disable()  # a seventh of the time that imports take, and the process is over at once
    output = os.fdopen(os.dup(1), "wb")
    with suppress(OSError):  # there may be no standard error
        os.dup2(2, 1)  # what libraries print is no answer
    config, tensors = pickle.load(sys.stdin.buffer)  # noqa: S301 - of a process of our own
    made = None
    try:
        made = read_blueprint(config, tensors)
    except Exception:  # as in a thread: a defect says so, and nothing certain can be said
        traceback.print_exc()
    with suppress(BrokenPipeError):
        output.write(pickle.dumps(made))
        output.flush()
    os._exit(0)


def read_blueprint(config: Mapping[str, Any], tensors: Mapping[str, TensorFacts]) -> BlueprintFacts | None:
    """Compare what a config asks for with what the files declare.

    Returns:
        None where names cannot be compared with certainty: quantised weights, models that transformers does not know.
    """
    if _is_quantised(config):
        return None
    if config.get("model_type") == MINICPMV:
        return _misread(config) or minicpmv_blueprint(config, tensors)
    if not is_native(config):
        return None
    if count := next(_counts_beyond(config), None):
        return BlueprintFacts("transformers", problem=f"{count[0]} is {count[1]:,}, more than any model has")
    try:
        with _silence():
            return _from_transformers(config, tensors)
    except Exception as error:  # a config may make the class raise anything
        return BlueprintFacts("transformers", problem=_said(error))


def _misread(config: Mapping[str, Any]) -> BlueprintFacts | None:
    """Let transformers' classes of both parts of a flat MiniCPM-V config read it; None if they can.

    Also None if what decides is missing or of another type, which the check `minicpmv` says.
    """
    from dataclasses import fields

    from transformers import CONFIG_MAPPING, SiglipVisionConfig

    version = minicpmv.version_of(config)
    if version is None or minicpmv.missing_fields(config) or minicpmv.misfit_fields(config):
        return None
    language = CONFIG_MAPPING[minicpmv.LANGUAGES[version]]
    given = _copied({name: one for name, one in config.items() if name != "model_type"})
    names = {one.name for one in fields(language)} - {"dtype"}  # `model_config` says so
    rope = {name: given[name] for name in ("rope_theta", "rope_scaling") if given.get(name) is not None}
    try:
        language(**{name: one for name, one in given.items() if name in names} | rope)
        SiglipVisionConfig(**{name: one for name, one in given["vision_config"].items() if name != "model_type"})
    except Exception as error:  # a value may make the class raise anything
        return BlueprintFacts("transformers", problem=_said(error))
    return None


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {without_folders(' '.join(str(error).split()))[:300]}"


def is_native(config: Mapping[str, Any]) -> bool:
    """Say whether transformers has a class of its own for the model type.

    What this process added for MiniCPM-V does not count: a report must not depend on what was loaded before.
    """
    from transformers import CONFIG_MAPPING

    model_type = config.get("model_type")
    return isinstance(model_type, str) and model_type != MINICPMV and model_type in CONFIG_MAPPING


def _is_quantised(config: Mapping[str, Any]) -> bool:
    text = config.get("text_config")
    return bool(config.get("quantization_config") or (isinstance(text, dict) and text.get("quantization_config")))


def _from_transformers(config: Mapping[str, Any], tensors: Mapping[str, TensorFacts]) -> BlueprintFacts | None:
    import torch
    from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    parsed = CONFIG_MAPPING[config["model_type"]].from_dict(_copied(config))
    mappings = (MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING)
    classes = [one[type(parsed)] for one in mappings if type(parsed) in one]
    if not classes:
        return BlueprintFacts("transformers", config=_known_settings(parsed))
    stored = {
        name: torch.empty(one.shape, dtype=torch.bfloat16 if one.dtype in FLOATS else torch.int8, device="meta")
        for name, one in tensors.items()
    }
    kept = _known_settings(parsed)  # building changes the config
    model, info = classes[0].from_pretrained(
        None,
        config=parsed,
        state_dict=stored,
        device_map="meta",
        dtype=torch.bfloat16,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    return BlueprintFacts(
        source="transformers",
        classes=tuple(dict.fromkeys(one.__name__ for one in classes)),
        config=kept,
        is_tied=_is_tied(model),
        parameters={name: tuple(one.shape) for name, one in model.named_parameters(remove_duplicate=False)},
        missing=tuple(sorted(info["missing_keys"])),
        unused=tuple(sorted(info["unexpected_keys"])),
        misshapen={name: (tuple(stored), tuple(needed)) for name, stored, needed in sorted(info["mismatched_keys"])},
    )


def _is_tied(model: Any) -> bool | None:
    """Say whether the class makes one matrix of both where the files hold only one."""
    try:
        return bool(model.config.tie_word_embeddings and model.get_output_embeddings() is not None)
    except (AttributeError, NotImplementedError):
        return None


def _known_settings(parsed: Any) -> dict[str, Any]:
    """Return the fields that a config class declares, as JSON values, in parts as they are nested."""
    from dataclasses import fields

    from transformers import PreTrainedConfig

    found: dict[str, Any] = {"model_type": parsed.model_type}
    for one in fields(type(parsed)):
        value = getattr(parsed, one.name, None)
        if isinstance(value, PreTrainedConfig):
            found[one.name] = _known_settings(value)
        elif (plain := _plain(value)) is not ...:
            found[one.name] = plain
    return found


def _plain(value: Any) -> Any:
    """Return a JSON value, or `...` for what is none."""
    if isinstance(value, VALUES_KEPT):
        return value
    if isinstance(value, list | tuple):
        items = [_plain(one) for one in value]
        return ... if ... in items else items
    if isinstance(value, dict):
        return {str(key): one for key, item in value.items() if (one := _plain(item)) is not ...}
    return ...


def _counts_beyond(part: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, int]]:
    for key, value in part.items():
        if isinstance(value, dict):
            yield from _counts_beyond(value, f"{path}{key}.")
        elif isinstance(value, int) and COUNTS.search(key) and value > MAX_COUNT:
            yield f"{path}{key}", value


def _copied(value: Any) -> Any:
    """Copy the containers: config classes change what they are given."""
    if isinstance(value, dict):
        return {key: _copied(one) for key, one in value.items()}
    return [_copied(one) for one in value] if isinstance(value, list) else value


@contextmanager
def _silence() -> Iterator[None]:
    """Keep transformers from printing its report: it becomes facts."""
    from transformers.utils import logging as library

    verbosity, has_bar = library.get_verbosity(), library.is_progress_bar_enabled()
    library.set_verbosity(library.CRITICAL)
    library.disable_progress_bar()
    try:
        yield
    finally:
        library.set_verbosity(verbosity)
        if has_bar:
            library.enable_progress_bar()
