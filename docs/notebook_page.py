"""A hook of mkdocs: the notebook tour.ipynb as the page tour.md, its outputs as they are in the file."""

import json
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds a page for each notebook in docs/, and takes the notebooks themselves out."""
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        assert file.abs_src_path is not None
        notebook = json.loads(Path(file.abs_src_path).read_text())
        files.remove(file)
        name = file.src_uri.removesuffix(".ipynb") + ".md"
        files.append(File.generated(config, name, content="\n\n".join(blocks(notebook))))
    return files


def blocks(notebook: dict) -> Iterator[str]:
    """The notebook's cells as Markdown: text as it is, code and the text that it printed in fences."""
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            yield source
            continue
        yield f"```python\n{source}\n```"
        for output in cell["outputs"]:
            text = output["text"] if output["output_type"] == "stream" else output["data"]["text/plain"]
            yield f"```text\n{''.join(text).rstrip()}\n```"
