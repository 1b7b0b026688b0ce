"""``run_all.py explain``: prints a key's type, default and description (the docstring of its field)."""

import argparse
import inspect
import textwrap
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel

from benchmarks.commands.request import Outcome, add_plugins, load_plugins
from sskd.errors import UserError, unknown

EXAMPLE = "explain recipe.full_epochs"
WORDS = {"boolean": "true or false", "integer": "a whole number", "number": "a number", "string": "text"}
WORDS |= {"null": "null", "object": "a mapping of keys to values"}
BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
Schema = dict[str, Any]  # JSON schema of a key, with its default, its description and the definitions that it uses


class Key(NamedTuple):
    """A key of a profile or of a cluster's file."""

    path: str
    schema: Schema
    inherits: bool = False  # whether it overrides another value, which is then its default


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "key", metavar="KEY", help="key of a profile (recipe.full_epochs) or of a cluster (cluster.time)"
    )
    add_plugins(parser)


def act(options: argparse.Namespace) -> Outcome:
    load_plugins(options)
    print(explain(options.key))
    return Outcome()


def explain(path: str) -> str:
    """Returns the key's type, default and description, and the keys below it. Raises UserError with the nearest name
    for an unknown key."""
    from benchmarks.dispatch.cluster import ClusterSpec
    from benchmarks.profiles.profile import Profile
    from sskd.runs.spec import CommonSpec, HeadSpec, StudentSpec, TeacherSpec

    first, *rest = path.split(".")
    if first == "cluster" and rest:
        about = "Where runs execute: a cluster's file, see --cluster."
        key = Key(first, ClusterSpec.model_json_schema() | {"description": about})
    else:
        # explains the first model that has the key
        models: tuple[type[BaseModel], ...] = (Profile, CommonSpec, StudentSpec, HeadSpec, TeacherSpec)
        root = next((model for model in models if first in model.model_fields), None)
        if root is None:
            raise unknown("key", first, [*Profile.model_fields, "cluster"])
        key = Key(first, _property(_mappings(root.model_json_schema())[0], first))
    for name in rest:
        key = _inside(key, name)
    return _text(key)


def _property(schema: Schema, name: str) -> Schema:
    """Returns the schema of a key. The default of the mapping that has the key overrides the key's own."""
    own, outer = {"$defs": schema.get("$defs", {})} | schema["properties"][name], schema.get("default")
    return own | {"default": outer[name]} if isinstance(outer, dict) and name in outer else own


def _mappings(schema: Schema) -> list[Schema]:
    """Returns the schemas of the mappings with given keys that a value can be."""
    if "$ref" in schema:
        schema = schema["$defs"][schema["$ref"].rpartition("/")[2]] | schema
    shared = {name: schema[name] for name in ("$defs", "default") if name in schema}
    kinds = schema.get("anyOf") or schema.get("oneOf") or []
    return [schema] if "properties" in schema else [found for kind in kinds for found in _mappings(kind | shared)]


def _inside(key: Key, name: str) -> Key:
    """Returns the key ``name`` within ``key``."""
    from benchmarks.dispatch.cluster import Parameters

    path, schema = f"{key.path}.{name}", key.schema
    named = _under_a_name(key, name)
    if named is not None:
        return named
    of_cluster = key.path in ("cluster", "cluster.parameters")
    mappings = [*_mappings(schema), *([Parameters.model_json_schema()] if of_cluster else [])]
    for mapping in mappings:
        if name in mapping["properties"]:
            return Key(path, _property(mapping, name), key.inherits)
    if of_cluster:  # any name can be an option of sbatch
        about = (schema if key.path == "cluster.parameters" else schema["properties"]["parameters"])["description"]
        return Key(path, {"description": about})
    if mappings:
        raise unknown(f"key of {key.path}", name, {known for mapping in mappings for known in mapping["properties"]})
    if "additionalProperties" in schema:
        value = schema["additionalProperties"]
        kept = {"$defs": schema["$defs"], "description": schema["description"]}
        default = {"default": schema["default"][name]} if name in schema.get("default", {}) else {}
        return Key(path, (value if isinstance(value, dict) else {}) | kept | default)
    raise UserError(f"'{key.path}' is a single value and has no keys")


def _under_a_name(key: Key, name: str) -> Key | None:
    """Returns the key for a name in a mapping whose type is only "any mapping"; None for other keys."""
    from benchmarks.profiles.profile import OVERRIDABLE, Profile
    from benchmarks.profiles.read import pretext_settings
    from benchmarks.tables.benchmark import BENCHMARKS
    from sskd.config.recipe import Recipe
    from sskd.methods import METHODS
    from sskd.pretext import PRETEXTS
    from sskd.runs.settings import method_settings

    kind, path = key.path.rpartition(".")[2], f"{key.path}.{name}"
    settings: Any = {"method_settings": method_settings, "pretext_settings": pretext_settings}.get(kind)
    if settings is not None:
        made: BaseModel = settings(name)
        about = inspect.cleandoc(type(made).__doc__ or "")
        default = made.model_dump(mode="json")
        return Key(path, type(made).model_json_schema() | {"default": default, "description": about})
    registries: dict[str, Any] = {"method_recipes": METHODS, "head_recipes": PRETEXTS, "overrides": BENCHMARKS}
    if kind not in registries:
        return None
    registries[kind][name]  # raises UserError for an unknown name
    schema = (Profile if kind == "overrides" else Recipe).model_json_schema()
    if kind == "overrides":
        schema["properties"] = {key: schema["properties"][key] for key in OVERRIDABLE}
    return Key(path, schema | {"description": key.schema["description"]}, inherits=True)


def describe_type(schema: Schema) -> str:
    """Describes a type: "a whole number, at least 1"."""
    if kinds := schema.get("anyOf") or schema.get("oneOf"):
        texts = list(dict.fromkeys(map(describe_type, kinds)))
        return ("; or " if any("," in text for text in texts) else " or ").join(texts)
    if choices := schema.get("enum") or ([schema["const"]] if "const" in schema else []):
        return " or ".join(map(str, choices))
    if schema.get("type") == "array":
        several = schema.get("prefixItems")
        size, each = (f" of {len(several)}", several[0]) if several else ("", schema["items"])
        return f"a list{size}, each {describe_type(each)}"
    if "additionalProperties" in schema and "properties" not in schema:
        values = schema["additionalProperties"]
        return f"a mapping from names, each to {describe_type(values) if isinstance(values, dict) else 'any value'}"
    kind = "object" if "$ref" in schema else schema.get("type", "")
    bounds = [f"{words} {schema[bound]:g}" for bound, words in BOUNDS.items() if bound in schema]
    return ", ".join([WORDS.get(kind, "any value"), *bounds])


def _default(key: Key) -> str | None:
    """Formats a key's default as YAML on one line; None for a key without default."""
    if key.inherits:
        return "inherited (the value without this override)"
    if "default" not in key.schema:
        return None
    return yaml.safe_dump(key.schema["default"], default_flow_style=True, width=10**6).removesuffix("...\n").strip()


def _text(key: Key) -> str:
    mappings = _mappings(key.schema)
    lines = [f"{key.path}: {describe_type(key.schema)}"]
    if not mappings:
        lines.append(f"default: {_default(key) or 'none'}")
    lines += textwrap.wrap(key.schema.get("description", ""), 100)
    below: dict[str, Schema] = {}
    for mapping in mappings:
        for name in mapping["properties"]:  # keys that two kinds of mappings share are printed once
            below.setdefault(name, _property(mapping, name))
    for name, schema in below.items():
        if name == "name" and ("default" in key.schema or key.inherits):
            continue  # a name is given by the key
        default = None if key.inherits or _mappings(schema) else _default(Key(name, schema))
        about = " ".join(schema["description"].split())
        lines.append(f"  {name}{'' if default is None else f' (default: {default})'}: {about}")
    return "\n".join(lines)
