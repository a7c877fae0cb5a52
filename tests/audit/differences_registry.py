"""The lists in which differences that change no answer register themselves.

Knows none of them; they are in the modules that `differences.py` names.
"""

from collections.abc import Callable

from tests.builders import Folders

Make = Callable[[Folders], None]
IN_FILES: dict[str, tuple[str, Make]] = {}
"""Name -> adapter and change; every function with `@harmless` is one."""
LOADED: dict[str, list[str]] = {"base": [], "adapter": []}
"""Names of those that are also loaded, by the folder that they change."""


def harmless(adapter: str = "json", *, loaded: str = "") -> Callable[[Make], Make]:
    def register(make: Make) -> Make:
        IN_FILES[make.__name__] = (adapter, make)
        if loaded:
            LOADED[loaded].append(make.__name__)
        return make

    return register
