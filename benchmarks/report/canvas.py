"""Style, panels, legend and files of all figures.

The style does not depend on a user's matplotlibrc, so the same results give the same bytes on every machine.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no display needed

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.report.style import DASHES, Style
from sskd.errors import UserError, described
from sskd.runs.files import write_atomically

RC: dict[Any, Any] = {"font.size": 9, "axes.titlesize": 9, "axes.spines.top": False, "axes.spines.right": False}
RC |= {"pdf.fonttype": 42, "svg.hashsalt": "sskd", "figure.dpi": 100, "savefig.dpi": 160}
RC |= {"font.sans-serif": ["DejaVu Sans"], "legend.frameon": False}  # bundled with matplotlib
# no dates and versions, so the same results give the same files
METADATA: dict[str, Any] = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Producer": None}}
LETTER = 0.075  # approximate width of a letter in inches
LONGEST = 26  # maximum number of letters of a row's name


def attempt(path: Path, draw: Callable[[], Figure | None]) -> tuple[Path | None, list[str]]:
    """Draws a figure and writes <path>.png and .pdf.

    Returns the PNG's path, or None without a figure, and notes: if drawing fails, its reason. The report continues
    without the figure, and files of an earlier report are deleted. UserError and OSError are not caught, because they
    concern the whole report (a full disk).
    """
    files = {kind: path.with_name(f"{path.name}.{kind}") for kind in METADATA}
    try:
        with plt.rc_context():
            plt.rcdefaults()
            sns.set_theme(style="ticks", rc=RC)
            figure = draw()
            if figure is None:
                return None, []
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # otherwise the layout is computed again for each file
            for kind, file in files.items():
                write_atomically(file, partial(figure.savefig, format=kind, metadata=METADATA[kind]))
            return files["png"], []
    except (UserError, OSError):
        raise
    except Exception as error:
        for file in files.values():
            file.unlink(missing_ok=True)
        return None, [f"The figure {path.name} could not be drawn: {described(error)}."]
    finally:
        plt.close("all")


def panels(
    count: int, across: int, size: tuple[float, float], names: Sequence[str] = (), sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """Returns a figure with ``count`` panels of ``size`` (width, height in inches), ``across`` per line, with room for
    the rows' ``names`` on the left."""
    across = min(across, count)
    down = -(-count // across)
    left = LETTER * max(map(len, names), default=0)
    figure, axes = plt.subplots(
        down,
        across,
        figsize=(left + size[0] * across, size[1] * down),
        sharey=sharey,
        squeeze=False,
        layout="constrained",
    )
    for axis in axes.flat[count:]:
        axis.remove()
    return figure, list(axes.flat[:count])


def legend(figure: Figure, rows: Sequence[str], styles: Any, handles: Sequence[Line2D] = ()) -> Figure:
    """Adds a legend above the panels: of the rows in their styles, or of ``handles``."""
    if not handles:
        handles = [
            Line2D([], [], color=style.hex, marker=style.marker, linestyle=dashes(style), label=shortened(row))
            for row, style in ((row, styles[row]) for row in rows)
        ]
    width, height = figure.get_size_inches()
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = max(1, min(len(handles), int(width / (0.6 + LETTER * longest))))
    figure.set_size_inches(width, height + 0.22 * -(-len(handles) // columns))
    figure.legend(handles=list(handles), loc="outside upper center", ncols=columns)
    return figure


def dashes(style: Style) -> Any:
    """Returns a row's dashes as matplotlib's linestyle."""
    return (0, DASHES[style.dash]) if DASHES[style.dash] else "-"


def shortened(name: str) -> str:
    """Returns a row's name, shortened to LONGEST letters."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
