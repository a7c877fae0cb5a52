"""Reads the small files of a folder: JSON and text, bounded in size and depth.

Does not know what the keys mean. A file that cannot be read becomes a `FileProblem`, not an exception. Links are
followed wherever they lead, as hub caches are made of them; what they lead to is only ever parsed, never quoted.
"""

import json
from pathlib import Path
from typing import Any

from service.domain.facts import FileProblem

MAX_BYTES = 256_000_000
"""Tokenizers of 250,000 tokens are about 20 MB."""
KEPT = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "chat_template.json",
    "adapter_config.json",
    "args.json",
    "merge.json",
    "repair.json",
)
"""The documents that are facts; tokenizer.json and the weights' index are read by those who understand them."""

POINTER = "is a Git LFS pointer: the file itself was never fetched"
_POINTER_STARTS = b"version https://git-lfs.github.com/spec/"


def is_pointer(path: Path) -> bool:
    """Say whether a file only names what Git LFS keeps elsewhere, as a clone without LFS leaves it."""
    with path.open("rb") as file:
        return file.read(len(_POINTER_STARTS)) == _POINTER_STARTS


class Documents:
    """The JSON and text files of one folder, each read once.

    Args:
        folder: The checkpoint.

    Attributes:
        problems: Every file that could not be read, in order of reading.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problems: list[FileProblem] = []
        self._cache: dict[str, dict[str, Any]] = {}

    def has(self, name: str) -> bool:
        """Say whether the file exists."""
        return (self.folder / name).is_file()

    def json(self, name: str) -> dict[str, Any]:
        """Return a parsed JSON object; an empty one if the file is missing or has a problem."""
        if name not in self._cache:
            self._cache[name] = self._read_json(name)
        return self._cache[name]

    def kept(self) -> dict[str, dict[str, Any]]:
        """Return the documents that are facts, those that the folder has. What is wrong with one is not noted here."""
        known = len(self.problems)
        found = {name: self.json(name) for name in KEPT if self.has(name)}
        del self.problems[known:]
        return found

    def files(self) -> dict[str, int]:
        """Return the size in bytes of every file of the folder, by name; broken links and subfolders are left out."""
        return {path.name: path.stat().st_size for path in sorted(self.folder.iterdir()) if path.is_file()}

    def note(self, name: str, problem: str) -> None:
        """Remember what is wrong with a file."""
        self.problems.append(FileProblem(name, problem))

    def _text(self, name: str) -> str | None:
        path = self.folder / name
        try:
            if not path.is_file():
                return None
            if (size := path.stat().st_size) > MAX_BYTES:
                self.note(name, f"is {size:,} bytes, more than the {MAX_BYTES:,} that such a file may have")
                return None
            if is_pointer(path):
                self.note(name, POINTER)
                return None
            with path.open("rb") as file:  # some special files have no size and no end
                return file.read(size).decode("utf-8")
        except UnicodeDecodeError as error:
            self.note(name, f"is not UTF-8: byte {error.start} cannot be decoded")
        except OSError as error:
            self.note(name, f"cannot be read: {error.strerror}")
        return None

    def _read_json(self, name: str) -> dict[str, Any]:
        text = self._text(name)
        if text is None:
            return {}
        try:
            parsed = json.loads(text)
            if "\\ud" in text.lower():
                json.dumps(parsed, ensure_ascii=False).encode()
        except json.JSONDecodeError as error:
            self.note(name, f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}")
        except RecursionError:
            self.note(name, "is nested too deeply to be a checkpoint's file")
        except UnicodeEncodeError:
            self.note(name, "holds half of a character (a lone surrogate), which no other program can read")
        except ValueError:
            self.note(name, "holds a number with too many digits to be read")
        else:
            if isinstance(parsed, dict):
                return parsed
            self.note(name, f"holds a {type(parsed).__name__} where an object is expected")
        return {}
