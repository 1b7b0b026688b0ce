"""docs/tour.ipynb, run from the top. As a program it writes the notebook with the outputs of this run.

python -m tests.docs.tour
"""

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).parents[2]
TOUR = ROOT / "docs" / "tour.ipynb"


def execute(seconds: int = 1200) -> NotebookNode:
    """The notebook with new outputs, run by this Python. Raises where a cell raises, or takes longer than that."""
    notebook = nbformat.read(TOUR, 4)
    # the kernel that is called python3 is the interpreter that asks for it
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    NotebookClient(notebook, timeout=seconds, kernel_name="python3").execute(env=environment)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when it was run
        if cell.cell_type == "code":
            # progress bars are shown by "display_data", and are of no use to a reader
            cell.outputs = [output for output in cell.outputs if output.output_type != "display_data"]
    return notebook


if __name__ == "__main__":
    done = execute()
    nbformat.validate(done)
    nbformat.write(done, TOUR)
    print(f"written with its outputs: {TOUR}", file=sys.stderr)
