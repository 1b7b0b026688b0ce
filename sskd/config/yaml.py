"""Reads YAML from files and from the command line. Nothing is executed, and anything but plain data raises an error."""

import json
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from sskd.errors import UserError

DEEPEST = 60  # levels of nesting; a student's spec with its head and teacher has eight
MOST = 100_000  # values in a file, with aliases expanded
INT, FLOAT, DATE = (f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "timestamp"))
LARGEST = 2**63 - 1  # int64


class _Loader(yaml.SafeLoader):
    """Safe loader in which a duplicate key is an error (PyYAML would silently drop the first). Numbers follow YAML
    1.2: 4:00:00 is text (1.1 reads it as 14,400), and so is a date; 1e-4 is a number."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in known if tag not in (INT, FLOAT, DATE)]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            name, line = (key.tag, str(key.value)), key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and name in lines:
                raise UserError(f"duplicate key '{key.value}' in lines {lines[name]} and {line}")
            lines[name] = line
        return node


_Loader.add_implicit_resolver(
    INT,
    re.compile(r"[-+]?(0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)$"),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver(
    FLOAT,
    re.compile(
        r"([-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
    ),
    list("-+.0123456789"),
)


def parse_yaml(text: str, where: str) -> Any:
    """Returns the data of a YAML text. Raises UserError, which begins with ``where``, if it is not valid YAML or not
    plain data."""
    try:
        data = yaml.load(text, _Loader)
        refuse_strange_values(data)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    except RecursionError:
        raise UserError(f"{where} is not valid YAML: nested more than {DEEPEST} deep") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # ValueError: a number of thousands of digits
        raise UserError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from None
    return data


def refuse_strange_values(data: Any) -> None:
    """Raises UserError unless the data only has mappings with text keys, lists, text, numbers, booleans and null,
    within the size limits. Later code relies on this."""
    seen = 0

    def visit(value: Any, depth: int) -> None:
        nonlocal seen
        seen += 1
        if depth > DEEPEST:
            raise UserError(f"nested more than {DEEPEST} deep")
        if seen > MOST:
            raise UserError(f"more than {MOST} values")
        if isinstance(value, dict):
            for key, item in value.items():
                if not isinstance(key, str):
                    raise UserError(f"the key {key!r} is not text; put it in quotes if it is a name")
                _refuse_control_characters(key)
                visit(item, depth + 1)
        elif isinstance(value, list | tuple):
            for item in value:
                visit(item, depth + 1)
        elif isinstance(value, str):
            _refuse_control_characters(value)
        elif isinstance(value, int) and abs(value) > LARGEST:
            raise UserError(f"an integer with {value.bit_length()} bits is too large for int64")
        elif not (value is None or isinstance(value, int | float)):
            raise UserError(f"{value!r} is a {type(value).__name__}; expected text, a number, true, false or null")

    visit(data, 0)


def _refuse_control_characters(text: str) -> None:
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t":
            raise UserError(f"{text[:40]!r} contains the control character {character!r}")


def read_yaml(path: Path) -> Any:
    """Returns the data of a YAML file. Raises UserError if the file is missing, unreadable, not valid YAML, or not
    plain data."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"no such file: {path}") from None
    except (OSError, ValueError) as error:  # ValueError: not UTF-8
        raise UserError(f"cannot read {path}: {error}") from None
    return parse_yaml(text, str(path))


def override(data: dict[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Applies ``a.b=c`` settings to nested data and returns a new dict. Values are YAML (0.1, [1, 2], true)."""
    if not isinstance(data, dict):
        raise UserError(f"expected a mapping of keys to values, found {type(data).__name__}")
    result = json.loads(json.dumps(data))  # in the copy, two aliases of a node can be changed one by one
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path:
            raise UserError(f"--set {setting}: expected key.path=value")
        value = parse_yaml(text, f"--set {setting[:80]}")
        *parents, last = path.split(".")
        target = result
        for parent in parents:
            if not isinstance(target.setdefault(parent, {}), dict):
                raise UserError(f"--set {setting}: '{parent}' is a value without keys")
            target = target[parent]
        target[last] = value
    refuse_strange_values(result)
    return dict(result)
