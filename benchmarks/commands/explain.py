"""``run_all.py explain``: prints a key's type, default and description (the docstring of its field)."""

import argparse
import inspect
import textwrap
import types
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import yaml
from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from benchmarks.commands.request import Outcome, add_plugins, load_plugins
from sskd.errors import UserError, unknown

EXAMPLE = "explain recipe.full_epochs"
UNSET = object()  # a key without default
OUTER = object()  # a key that overrides another value: the default is that value
WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", types.NoneType: "null"}
WORDS[Any] = "any value"
BOUNDS = {Ge: ("at least", "ge"), Gt: ("above", "gt"), Le: ("at most", "le"), Lt: ("below", "lt")}


class Key(NamedTuple):
    """A key of a profile or of a cluster's file."""

    path: str
    type: Any
    default: Any = UNSET
    about: str = ""


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
        key = Key(first, ClusterSpec, UNSET, "Where runs execute: a cluster's file, see --cluster.")
    else:
        # explains the first model that has the key
        models: tuple[type[BaseModel], ...] = (Profile, CommonSpec, StudentSpec, HeadSpec, TeacherSpec)
        root = next((model for model in models if first in model.model_fields), None)
        if root is None:
            raise unknown("key", first, [*Profile.model_fields, "cluster"])
        key = _field(root, first, UNSET, first)
    for name in rest:
        key = _inside(key, name)
    return _text(key)


def _inside(key: Key, name: str) -> Key:
    """Returns the key ``name`` within ``key``."""
    from benchmarks.dispatch.cluster import ClusterSpec, Parameters

    path = f"{key.path}.{name}"
    named = _under_a_name(key, name)
    if named is not None:
        return named
    of_cluster = key.path in ("cluster", "cluster.parameters")
    models: list[type[BaseModel]] = [*_models(key.type), *([Parameters] if of_cluster else [])]
    for model in models:
        if name in model.model_fields:
            return _field(model, name, key.default, path)
    if of_cluster:  # any name can be an option of sbatch
        return Key(path, Any, UNSET, str(ClusterSpec.model_fields["parameters"].description))
    if models:
        raise unknown(f"key of {key.path}", name, {field for model in models for field in model.model_fields})
    if get_origin(_bare(key.type)) is dict:
        own = key.default.get(name, UNSET) if isinstance(key.default, dict) else UNSET
        return Key(path, get_args(_bare(key.type))[1], own, key.about)
    raise UserError(f"'{key.path}' is a single value and has no keys")


def _under_a_name(key: Key, name: str) -> Key | None:
    """Returns the key for a name in a mapping whose type is only "any mapping"; None for other keys."""
    from benchmarks.profiles.profile import Override
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
        return Key(path, type(made), made, inspect.cleandoc(type(made).__doc__ or ""))
    changed: dict[str, tuple[Any, Any]] = {
        "method_recipes": (METHODS, Recipe),
        "head_recipes": (PRETEXTS, Recipe),
        "overrides": (BENCHMARKS, Override),
    }
    if kind not in changed:
        return None
    registry, model = changed[kind]
    registry[name]  # raises UserError for an unknown name
    return Key(path, model, OUTER, key.about)


def _field(model: type[BaseModel], name: str, parent: Any, path: str) -> Key:
    """Returns the key of a field. parent: the default of the object that has the field, which may override the field's
    own."""
    field: FieldInfo = model.model_fields[name]
    default = UNSET if field.is_required() else field.get_default(call_default_factory=True, validated_data={})
    if parent is OUTER:
        default = OUTER
    elif isinstance(parent, model):
        default = getattr(parent, name)
    annotation: Any = field.annotation
    for mark in field.metadata:
        annotation = Annotated[annotation, mark]
    return Key(path, annotation, default, " ".join((field.description or "").split()))


def _bare(annotation: Any) -> Any:
    """Removes Annotated and "or null" from a type."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        parts = [part for part in get_args(annotation) if part is not types.NoneType]
        return _bare(parts[0]) if len(parts) == 1 else annotation
    return annotation


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Returns the models that a value of this type can be."""
    bare = _bare(annotation)
    if inspect.isclass(bare) and issubclass(bare, BaseModel):
        return [bare]
    if get_origin(bare) in (Union, types.UnionType):
        return [model for part in get_args(bare) for model in _models(part)]
    return []


def describe_type(annotation: Any) -> str:
    """Describes a type: "a whole number, at least 1"."""
    if get_origin(annotation) is Annotated:
        inner, *marks = get_args(annotation)
        nested = [mark for mark in marks if isinstance(mark, FieldInfo)]
        marks += [bound for mark in nested for bound in mark.metadata]
        bounds = [f"{BOUNDS[type(m)][0]} {getattr(m, BOUNDS[type(m)][1]):g}" for m in marks if type(m) in BOUNDS]
        return ", ".join([describe_type(inner), *bounds])
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(map(str, parts))
    if origin in (Union, types.UnionType):
        texts = list(dict.fromkeys(describe_type(part) for part in parts))
        return ("; or " if any("," in text for text in texts) else " or ").join(texts)
    if origin is tuple:
        size = "" if parts[-1] is ... else f" of {len(parts)}"
        return f"a list{size}, each {describe_type(parts[0])}"
    if origin is dict:
        return f"a mapping from names, each to {describe_type(parts[1])}"
    return WORDS.get(annotation, "a mapping of keys to values")


def _value(value: Any) -> str:
    """Formats a value as YAML on one line."""
    if value is UNSET:
        return "none"
    if value is OUTER:
        return "inherited (the value without this override)"
    if isinstance(value, tuple):
        value = [item.model_dump(mode="json") if isinstance(item, BaseModel) else item for item in value]
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n").strip()


def _text(key: Key) -> str:
    models = _models(key.type)
    lines = [f"{key.path}: {describe_type(key.type)}"]
    if not models:
        lines.append(f"default: {_value(key.default)}")
    lines += textwrap.wrap(key.about, 100)
    listed: set[str] = set()
    for model in models:
        for name in model.model_fields:
            if name in listed or (name == "name" and key.default is not UNSET):
                continue  # keys that two models share are printed once; a name is given by the key
            listed.add(name)
            field = _field(model, name, key.default, name)
            default = (
                ""
                if field.default is UNSET or field.default is OUTER or _models(field.type)
                else f" (default: {_value(field.default)})"
            )
            lines.append(f"  {name}{default}: {field.about}")
    return "\n".join(lines)
