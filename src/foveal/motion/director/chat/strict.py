"""A schema in the form that strict servers take, and in words that people and models take."""

import json
from collections.abc import Mapping
from typing import Any

from foveal.motion.director.chat.schema import Json, limits_in_words

_JSON_TYPES = {str: "string", bool: "boolean", int: "number", float: "number",
               type(None): "null"}  # fmt: skip


def strict_form(schema: Mapping[str, Any]) -> Json | None:
    """Return a schema as strict structured output wants it, or None if it cannot be said so.

    Every object is closed and every property required; what was optional may be null. Ranges and
    lengths go into the descriptions, since not every server knows them; the answer is checked with
    the schema itself afterwards (`conform` first).
    """
    if "anyOf" in schema:
        branches = [strict_form(branch) for branch in schema["anyOf"]]
        if any(branch is None for branch in branches):
            return None
        return {"anyOf": branches} | _described(schema)
    out: Json = {word: schema[word] for word in ("type", "enum") if word in schema}
    kinds = schema.get("type", [])
    if not kinds and "enum" in schema:  # strict servers want a type beside an enumeration
        names = {_JSON_TYPES.get(type(option), "") for option in schema["enum"]} - {""}
        if names:
            out["type"] = names.pop() if len(names) == 1 else sorted(names)
    if "array" in kinds:
        items = strict_form(schema.get("items", {"type": "string"}))
        if items is None or "items" not in schema:
            return None
        out["items"] = items
    if "object" in kinds:
        properties = schema.get("properties", {})
        if not properties or schema.get("additionalProperties", False) is not False:
            return None
        parts: Json = {}
        for name, part in properties.items():
            strict = strict_form(part)
            if strict is None:
                return None
            parts[name] = strict if name in schema.get("required", []) else _nullable(strict)
        out |= {"properties": parts, "required": list(parts), "additionalProperties": False}
    return out | _described(schema)


def _described(schema: Mapping[str, Any]) -> Json:
    text = "; ".join(t for t in (schema.get("description", ""), limits_in_words(schema)) if t)
    return {"description": text} if text else {}


def _nullable(schema: Json) -> Json:
    if schema.get("type") == "null" or "null" in schema.get("type", []):
        return schema
    return {"anyOf": [schema, {"type": "null"}]}


_WORDS = {
    "object": "an object",
    "array": "a list",
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "null": "null",
}


def in_words(schema: Mapping[str, Any]) -> str:
    """Describe a schema in lines of English, one a field, indented by depth."""
    return "\n".join(["The answer is " + _kind(schema) + ".", *_fields(schema, 0)])


def _fields(schema: Mapping[str, Any], depth: int) -> list[str]:
    lines: list[str] = []
    for name, part in schema.get("properties", {}).items():
        optional = "" if name in schema.get("required", []) else ", may be left out"
        described = f": {part['description']}" if "description" in part else ""
        lines.append(f'{"  " * depth}- "{name}" ({_kind(part)}{optional}){described}')
        lines += _inside(part, depth + 1)
    extra = schema.get("additionalProperties", True)
    if not isinstance(extra, bool):
        lines.append(f"{'  ' * depth}- any other field ({_kind(extra)})")
        lines += _inside(extra, depth + 1)
    return lines


def _inside(schema: Mapping[str, Any], depth: int) -> list[str]:
    lines = _fields(schema, depth)
    if "items" in schema:
        lines += _inside(schema["items"], depth)
    for branch in schema.get("anyOf", []):
        lines += _inside(branch, depth)
    return lines


def _kind(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return "one of " + ", ".join(
            json.dumps(option, ensure_ascii=False) for option in schema["enum"]
        )
    if "anyOf" in schema:
        return " or ".join(_kind(branch) for branch in schema["anyOf"])
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    text = " or ".join(_WORDS[kind] for kind in kinds)
    if "items" in schema:
        text += f", each {_kind(schema['items'])}"
    if schema.get("additionalProperties", True) is False and schema.get("properties"):
        text += " with these fields and no others"
    limits = limits_in_words(schema)
    return f"{text}, {limits}" if limits else text
