"""Says what is wrong with values that pydantic refused: the value, what is needed instead, and the name that was meant.

Knows no model of ours and no field: what is needed is read out of the model's own JSON schema.
"""

import difflib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

Location = tuple[int | str, ...]
Schema = dict[str, Any]

TYPES = {"integer": "a whole number", "number": "a number", "string": "a string", "array": "a list"}
UNITS = {"string": "characters", "array": "items"}
SIMPLE = {"boolean": "true or false", "null": "null", "object": "an object"}
HALF_A_PAIR = "contains half of a surrogate pair, which is no character"


def explain(error: ValidationError, model: type[BaseModel], max_echo: int, limit: int) -> list[tuple[Location, str]]:
    """Say in a sentence each what is wrong.

    Args:
        error: Of the model's validation.
        model: The model.
        max_echo: Most characters of what was sent that all sentences may repeat together.
        limit: Most sentences.

    Returns:
        Place and sentence of every mistake, in pydantic's order.
    """
    mistakes = error.errors(include_url=False)[:limit]
    schema = model.model_json_schema()
    listed: set[str] = set()  # of a list of names, only the first sentence that needs it shows it
    found = []
    for one in mistakes:
        place: Location = one["loc"]
        if one["type"] == "extra_forbidden":
            text = no_such("field", str(place[-1]), _names(schema, place[:-1]), listed)
        else:
            text = _sentence(dict(one), _at(schema, place), max_echo // len(mistakes))
        found.append((place, text))
    return found


def no_such(kind: str, name: str, known: Sequence[str], listed: set[str] | None = None) -> str:
    """Say that a name is unknown, which one is near, and which there are.

    Args:
        kind: What the name names: a field, a part.
        name: What was sent; it is not repeated.
        known: Names that there are.
        listed: Lists that were shown before; changed in place.
    """
    near = difflib.get_close_matches(name[:64], known, 1)
    names = ", ".join(known)
    is_new = listed is None or names not in listed
    if listed is not None:
        listed.add(names)
    meant = f"; did you mean {near[0]}?" if near else ""
    shown = f"{'' if near else ';'} {'The' if near else 'the'} {kind}s are {names}" if is_new and known else ""
    return f"there is no such {kind}{meant}{shown}"


def _sentence(mistake: dict[str, Any], schemas: list[Schema], max_echo: int) -> str:
    """Write one sentence; our own validators have written theirs themselves."""
    kind, context = mistake["type"], mistake.get("ctx", {})
    if kind in ("value_error", "assertion_error"):
        return str(context["error"])
    if kind == "string_unicode":
        return HALF_A_PAIR
    field = context.get("discriminator", "").strip("'")
    if kind == "union_tag_invalid":
        return f"{field} {_shown(context['tag'], max_echo)} does not fit; {_tags(schemas)} is needed"
    if kind == "union_tag_not_found":
        return f"{field} is missing; {_tags(schemas)} is needed"
    wanted = _wanted(schemas) or str(mistake["msg"])
    if kind == "string_pattern_mismatch":
        described = next((one["description"] for one in schemas if "description" in one), None)
        wanted = described or f"a string that matches {context['pattern']}"
        return f"{_shown(mistake['input'], max_echo)} does not fit; needed is: {wanted}"
    if kind == "missing":
        return f"is missing; {wanted} is needed"
    return f"{_shown(mistake['input'], max_echo)} does not fit; {wanted} is needed"


def _shown(value: Any, max_characters: int) -> str:
    """Show what was sent, a long string cut, of lists and objects only their size."""
    if isinstance(value, str):
        if len(value) <= max_characters:
            return json.dumps(value, ensure_ascii=False)
        return f"{json.dumps(value[: max(max_characters - 1, 0)] + '…', ensure_ascii=False)} ({len(value)} characters)"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}" if value else "an empty list"
    if isinstance(value, dict):
        return "an object"
    if value is None or isinstance(value, bool | int | float):
        text = json.dumps(value)
        return text if len(text) <= max_characters else text[: max_characters - 1] + "…"
    return f"a {type(value).__name__}"


def _wanted(schemas: Iterable[Schema]) -> str:
    """Say what fits any of these; null only if nothing else does, because the field can be left out as well."""
    found = list(dict.fromkeys(_one_wanted(one) for one in schemas))
    return _or([one for one in found if one != "null"] or found)


def _one_wanted(schema: Schema) -> str:
    if "enum" in schema or "const" in schema:
        return _or([json.dumps(one) for one in schema.get("enum", [schema.get("const")])])
    if schema.get("format") == "date":
        return "a date like 2027-01-31"
    kind = schema.get("type", "")
    if kind in SIMPLE:
        return SIMPLE[kind]
    if kind in ("integer", "number"):
        least, most = schema.get("minimum"), schema.get("maximum")
        return TYPES[kind] + _range(least, most, schema.get("exclusiveMinimum"))
    least, most = (schema.get(f"{bound}{'Length' if kind == 'string' else 'Items'}") for bound in ("min", "max"))
    if least is None and most is None:
        return TYPES.get(kind, "")
    size = f"{least} to {most}" if least and most else f"at most {most}" if most else f"at least {least}"
    return f"{TYPES[kind]} of {size} {UNITS[kind]}"


def _range(least: float | None, most: float | None, over: float | None) -> str:
    if over is not None:
        return f" over {over}" + (f" and at most {most}" if most is not None else "")
    if least is None:
        return f" of at most {most}" if most is not None else ""
    return f" from {least} to {most}" if most is not None else f" of at least {least}"


def _tags(schemas: Iterable[Schema]) -> str:
    return _or([json.dumps(tag) for one in schemas for tag in one.get("discriminator", {}).get("mapping", {})])


def _names(root: Schema, place: Location) -> list[str]:
    """Return the fields of the object at a place."""
    return [name for one in _at(root, place) for name in one.get("properties", {})]


def _at(root: Schema, place: Location) -> list[Schema]:
    """Return the schemas of what may stand at a place, references and alternatives resolved."""
    here = list(_alternatives(root, root))
    for step in place:
        below = [child for one in here for child in _children(one, step)]
        # A step into nothing is a union's own name for one of its members, and moves nowhere.
        here = [found for one in below for found in _alternatives(root, one)] or here
    return here


def _children(schema: Schema, step: int | str) -> list[Schema]:
    if "discriminator" in schema:
        reference = schema["discriminator"].get("mapping", {}).get(step)
        return [{"$ref": reference}] if reference else []
    if isinstance(step, int):
        return [schema["items"]] if "items" in schema else []
    if step in schema.get("properties", {}):
        return [schema["properties"][step]]
    return list(schema.get("patternProperties", {}).values())


def _alternatives(root: Schema, schema: Schema) -> Iterator[Schema]:
    """Resolve a reference, and open a union whose members have no tag in what is sent."""
    if "$ref" in schema:
        yield from _alternatives(root, root["$defs"][schema["$ref"].rpartition("/")[2]])
    elif "discriminator" in schema:
        yield schema
    elif members := schema.get("anyOf") or schema.get("oneOf"):
        for one in members:
            yield from _alternatives(root, one)
    else:
        yield schema


def _or(words: Sequence[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
