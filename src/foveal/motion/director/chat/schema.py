"""The part of JSON Schema that answers are checked with, its strict form, and its words for people.

A keyword outside the part is refused when a schema is given, so that nothing which a schema asks
for goes unchecked. Ranges and lengths are checked here and never left to a server: many refuse or
ignore them.
"""

import math
import operator
from collections.abc import Mapping
from typing import Any

from foveal.errors import ArgumentError

Json = dict[str, Any]
TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
_NOTES = ("title", "description", "default", "examples")
_COUNTS = ("minItems", "maxItems", "minLength", "maxLength")
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_REST = ("type", "properties", "required", "additionalProperties", "items", "enum", "anyOf")
KEYWORDS = (*_REST, *_COUNTS, *_BOUNDS, *_NOTES)
MAX_DEPTH = 24
_EXAMPLES = {"string": "...", "number": 0.0, "integer": 0, "boolean": True, "null": None}


def check_schema(schema: Mapping[str, Any], *, where: str = "check_schema: schema") -> None:
    """Check that a schema describes an object and uses only what `problems` can check.

    Raises:
        ArgumentError: an unknown keyword or type, a value that the keyword cannot have, a required
            property that is not described, more than 24 levels; names the place.
    """
    if schema.get("type") != "object":
        raise ArgumentError(
            f"{where}.type is {schema.get('type')!r}, must be 'object'; wrap the answer in one"
        )
    _check(schema, where, 0)


def _check(schema: Any, where: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ArgumentError(f"{where} is nested deeper than {MAX_DEPTH}, must be flatter")
    if not isinstance(schema, Mapping):
        raise _wrong(where, schema, "a schema, which is a mapping")
    for word in schema:
        if word not in KEYWORDS:
            raise ArgumentError(
                f"{where} has the keyword {word!r}, must be among {', '.join(KEYWORDS)}; "
                "say it in 'description' instead"
            )
    kinds = _kinds(schema)
    if any(kind not in TYPES for kind in kinds):
        raise _wrong(f"{where}.type", schema["type"], f"among {TYPES}")
    if not kinds and "anyOf" not in schema and "enum" not in schema:
        raise ArgumentError(f"{where} has no 'type', must have one (or 'anyOf', or 'enum')")
    for word in _COUNTS:
        if word in schema and not (_is_integer(schema[word]) and schema[word] >= 0):
            raise _wrong(f"{where}.{word}", schema[word], "a count of at least 0")
    for word in _BOUNDS:
        if word in schema and not _in_float(schema[word]):
            raise _wrong(f"{where}.{word}", schema[word], "a finite number")
    for word in ("enum", "anyOf"):
        if word in schema and not (isinstance(schema[word], list) and schema[word]):
            raise _wrong(f"{where}.{word}", schema[word], "a list of at least one")
    for i, branch in enumerate(schema.get("anyOf", [])):
        _check(branch, f"{where}.anyOf[{i}]", depth + 1)
    if "items" in schema:
        _check(schema["items"], f"{where}.items", depth + 1)
    properties = schema.get("properties", {})
    if not isinstance(properties, Mapping):
        raise _wrong(f"{where}.properties", properties, "a mapping of names to schemas")
    for name, part in properties.items():
        _check(part, f"{where}.properties[{name!r}]", depth + 1)
    for name in schema.get("required", []):
        if name not in properties:
            raise _wrong(f"{where}.required", name, f"among the properties {list(properties)}")
    extra = schema.get("additionalProperties", True)
    if not isinstance(extra, bool):
        _check(extra, f"{where}.additionalProperties", depth + 1)


def _wrong(where: str, value: Any, wanted: str) -> ArgumentError:
    return ArgumentError(f"{where} is {value!r}, must be {wanted}; correct the schema")


def _kinds(schema: Mapping[str, Any]) -> list[Any]:
    kind = schema.get("type", [])
    return list(kind) if isinstance(kind, list) else [kind]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_integer(value: Any) -> bool:
    return _in_float(value) and float(value).is_integer()


def _in_float(value: Any) -> bool:
    try:
        return _is_number(value) and math.isfinite(value)
    except OverflowError:
        return False


def _is(value: Any, kind: str) -> bool:
    if kind == "number":
        return _in_float(value)
    if kind == "integer":
        return _is_integer(value)
    types: dict[str, type] = {"object": dict, "array": list, "string": str, "boolean": bool}
    return value is None if kind == "null" else isinstance(value, types[kind])


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    return a == b


def problems(value: Any, schema: Mapping[str, Any], where: str = "answer") -> list[str]:
    """List what is wrong with a value, each as `place is value, must be ...`; empty if nothing.

    Args:
        value: What `json` decoded.
        schema: One that `check_schema` accepts.
        where: How the value is called in the texts.
    """
    kinds = _kinds(schema)
    if kinds and not any(_is(value, kind) for kind in kinds):
        return [f"{where} is {_short(value)}, must be of type {' or '.join(kinds)}"]
    found: list[str] = []
    if "enum" in schema and not any(_same(value, option) for option in schema["enum"]):
        found.append(f"{where} is {_short(value)}, must be one of {_short(schema['enum'], 400)}")
    if "anyOf" in schema:
        tried = [problems(value, branch, where) for branch in schema["anyOf"]]
        if all(tried):
            # the branch that was meant: of its type, and with the fewest mistakes
            found += min(tried, key=lambda t: (t[0].startswith(f"{where} is "), len(t)))
    if _is_number(value):
        found += _number_problems(value, schema, where)
    elif isinstance(value, str):
        found += _count_problems(len(value), "Length", "characters", schema, where)
    elif isinstance(value, list):
        found += _count_problems(len(value), "Items", "items", schema, where)
        if "items" in schema:
            for i, item in enumerate(value):
                found += problems(item, schema["items"], f"{where}[{i}]")
    elif isinstance(value, dict):
        found += _object_problems(value, schema, where)
    return found


def _object_problems(value: Json, schema: Mapping[str, Any], where: str) -> list[str]:
    properties, extra = schema.get("properties", {}), schema.get("additionalProperties", True)
    found = [
        f"{where} has no {name!r}, must have it"
        for name in schema.get("required", [])
        if name not in value
    ]
    for name, part in value.items():
        if name in properties:
            found += problems(part, properties[name], f"{where}.{name}")
        elif extra is False:
            allowed = ", ".join(properties) or "nothing"
            found.append(f"{where} has {_short(name)}, must hold only {allowed}")
        elif not isinstance(extra, bool):
            found += problems(part, extra, f"{where}.{_short(name).strip(chr(39))}")
    return found


def _number_problems(value: float, schema: Mapping[str, Any], where: str) -> list[str]:
    tests = (
        ("minimum", operator.ge, "at least"),
        ("maximum", operator.le, "at most"),
        ("exclusiveMinimum", operator.gt, "more than"),
        ("exclusiveMaximum", operator.lt, "less than"),
    )
    return [
        f"{where} is {_short(value)}, must be {words} {schema[word]}"
        for word, fits, words in tests
        if word in schema and not fits(value, schema[word])
    ]


def _count_problems(
    count: int, kind: str, unit: str, schema: Mapping[str, Any], where: str
) -> list[str]:
    low, high = schema.get(f"min{kind}", 0), schema.get(f"max{kind}", math.inf)
    if low <= count <= high:
        return []
    wanted = f"at least {low}" if count < low else f"at most {high}"
    return [f"{where} has {count} {unit}, must have {wanted}"]


def _short(value: Any, length: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= length else text[: length - 3] + "..."


def conform(value: Any, schema: Mapping[str, Any]) -> Any:
    """Return a copy without nulls that mean "left out", and with whole floats as integers.

    Strict servers must fill every property, and say null where there is nothing to say. What does
    not fit is left as it is, for `problems` to name.
    """
    if "anyOf" in schema:
        for branch in schema["anyOf"]:
            tried = conform(value, branch)
            if not problems(tried, branch):
                return tried
    kinds = _kinds(schema)
    if isinstance(value, float) and "integer" in kinds and "number" not in kinds:
        return int(value) if _is_integer(value) else value
    if isinstance(value, list) and "items" in schema:
        return [conform(item, schema["items"]) for item in value]
    if not isinstance(value, dict):
        return value
    properties, extra = schema.get("properties", {}), schema.get("additionalProperties", True)
    out: Json = {}
    for name, part in value.items():
        known = properties.get(name, {} if isinstance(extra, bool) else extra)
        optional = name in properties and name not in schema.get("required", [])
        if part is None and optional and problems(None, known):
            continue
        out[name] = conform(part, known)
    return out


def limits_in_words(schema: Mapping[str, Any]) -> str:
    """Return the ranges and lengths of one schema in words, or an empty text."""
    words = {
        "minimum": "at least {}",
        "maximum": "at most {}",
        "exclusiveMinimum": "more than {}",
        "exclusiveMaximum": "less than {}",
        "minItems": "at least {} items",
        "maxItems": "at most {} items",
        "minLength": "at least {} characters",
        "maxLength": "at most {} characters",
    }
    return ", ".join(text.format(schema[word]) for word, text in words.items() if word in schema)


def example(schema: Mapping[str, Any]) -> Any:
    """Make a value for a schema: its own first example or default if that fits, else the plainest.

    Whether it fits is for `problems` to say: a schema may ask for what cannot be.
    """
    for own in [*schema.get("examples", []), *([schema["default"]] if "default" in schema else [])]:
        if not problems(own, schema):
            return own
    if "enum" in schema:
        return next((o for o in schema["enum"] if not problems(o, schema)), schema["enum"][0])
    if "anyOf" in schema:
        return example(schema["anyOf"][0])
    kind = _kinds(schema)[0]
    if kind == "object":
        return {name: example(part) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        return [example(schema.get("items", {"type": "string"}))] * max(
            schema.get("minItems", 0), min(1, schema.get("maxItems", 1))
        )
    if kind == "string":
        longest = schema.get("maxLength", 3)
        return "..."[:longest].ljust(schema.get("minLength", 0), ".")
    return _example_number(kind, schema) if kind in ("number", "integer") else _EXAMPLES[kind]


def _example_number(kind: str, schema: Mapping[str, Any]) -> float:
    low = max(schema.get("minimum", -math.inf), schema.get("exclusiveMinimum", -math.inf))
    high = min(schema.get("maximum", math.inf), schema.get("exclusiveMaximum", math.inf))
    tries: list[float] = [0, low, high, low + 1, high - 1, 0.5 * (low + high)]
    if kind == "integer":
        tries = [math.ceil(t) for t in tries if math.isfinite(t)]
    else:
        tries = [float(t) for t in tries if math.isfinite(t)]
    return next((t for t in tries if not problems(t, schema)), 0)
