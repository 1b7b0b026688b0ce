"""Reads the files and commands that a Markdown file tells its readers to type."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"(?:python3?|make|pip|sskd|sskd-suite|\.venv/bin/\w+) .+")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`]+)`")
NAMED = re.compile(r"# ([\w-]+\.(?:py|yaml))\n")
# programs, of which a text speaks
MENTIONED = ("python run_all.py", "python -m sskd", "python -m sskd train", "python -m sskd evaluate")


class Document(NamedTuple):
    files: dict[str, str]  # content by name
    nameless: list[str]  # blocks of Python or YAML that say nowhere what file they are
    commands: list[str]  # in their order, each once, without what is said of them behind #


def read(path: Path) -> Document:
    text = path.read_text()
    files: dict[str, str] = {}
    nameless: list[str] = []
    commands: list[str] = []
    end = 0
    for block in FENCE.finditer(text):
        commands += _in_prose(text[end : block.start()])
        end = block.end()
        language, content = block.groups()
        if language not in ("python", "yaml"):
            commands += [line for line in content.splitlines() if COMMAND.fullmatch(line)]
        elif name := NAMED.match(content):
            files[name.group(1)] = content
        # without a name in its first line it is the file that was named last before it
        elif before := re.findall(rf"`([\w-]+\.{'py' if language == 'python' else 'yaml'})`", text[: block.start()]):
            files[before[-1]] = content
        else:
            nameless.append(content)
    commands += _in_prose(text[end:])
    plain = [" ".join(map(_quoted, shlex.split(command, comments=True))) for command in commands]
    return Document(files, nameless, [command for command in dict.fromkeys(plain) if command not in MENTIONED])


def _quoted(word: str) -> str:
    """Quotes a text for the shell, which still expands *."""
    return word if re.fullmatch(r"[\w./*-]+", word) else shlex.quote(word)


def _in_prose(text: str) -> list[str]:
    """Indented lines, then what stands between backticks."""
    lines = text.splitlines()
    indented = [line.strip() for line in lines if line.startswith("    ")]
    rest = "\n".join(line for line in lines if not line.startswith("    "))
    inline = [" ".join(found.split()) for found in INLINE.findall(rest)]
    return [command for command in indented + inline if COMMAND.fullmatch(command)]
