"""What all figures share: the style, the sheet of panels with its legend, and the files.

The style is the suite's own, whatever a matplotlibrc says, so the same results give the same bytes on every machine.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import matplotlib

matplotlib.use("Agg")  # no display is needed, and none is opened

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import TightLayoutEngine
from matplotlib.lines import Line2D

from benchmarks.report.style import DASHES, Look
from sskd.errors import UserError, described
from sskd.runs.files import write_atomically

STYLE: dict[Any, Any] = {"font.size": 9, "axes.titlesize": 9, "axes.spines.top": False, "axes.spines.right": False}
STYLE |= {"pdf.fonttype": 42, "svg.hashsalt": "sskd", "figure.dpi": 100, "savefig.dpi": 160}
STYLE |= {"font.sans-serif": ["DejaVu Sans"]}  # matplotlib brings it
NARROW_INCHES = 3.6  # a phone's width at the size that the page shows figures in
LEGEND_INCHES = 0.22  # a line of the legend
YAXIS_INCHES, XAXIS_INCHES, TITLE_INCHES, EDGE_INCHES = 0.68, 0.5, 0.3, 0.12  # around a panel
LETTER = 0.075  # inches of a letter, about
LONGEST = 26  # letters of a row's name
T = TypeVar("T")


class Drawn(NamedTuple):
    """A benchmark's figure: its files, and as a PNG the narrow form, panels below each other, that phones are shown."""

    paths: list[Path]
    narrow: bytes


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib's defaults with the suite's style over them; afterwards as it was."""
    with plt.rc_context():
        plt.rcdefaults()
        with sns.axes_style("ticks", rc=STYLE), plt.rc_context(STYLE):
            yield


def attempt(path: Path, draw: Callable[[], T]) -> tuple[T | None, list[str]]:
    """What ``draw`` gives, and no note; or no figure, and a note that says why: a figure that fails costs only itself.
    Files at ``path`` (without suffix) that an earlier report left are removed with it. UserError and OSError pass: a
    full disk is no figure's trouble."""
    try:
        return draw(), []
    except (UserError, OSError):
        raise
    except Exception as error:
        for suffix in (".png", ".pdf"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        return None, [f"The figure {path.name} could not be drawn: {described(error)}."]
    finally:
        plt.close("all")


def save(wide: Figure, narrow: Figure, path: Path) -> Drawn:
    """Writes <path>.png and .pdf, without dates and versions: the same results give the same files. Closes both."""
    paths = [save_as(wide, path, "png"), save_as(wide, path, "pdf")]
    buffer = io.BytesIO()
    narrow.savefig(buffer, format="png", metadata={"Software": None})
    plt.close(wide)
    plt.close(narrow)
    return Drawn(paths, buffer.getvalue())


def save_as(figure: Figure, path: Path, kind: str) -> Path:
    """Writes <path>.<kind>, png or pdf, and returns its path."""
    metadata: Any = {"Software": None} if kind == "png" else {"CreationDate": None, "Producer": None}
    file = path.with_name(f"{path.name}.{kind}")
    write_atomically(file, lambda out: figure.savefig(out, format=kind, metadata=metadata))
    return file


def panels(
    count: int,
    across: int,
    size: tuple[float, float],
    narrow: bool,
    labels: Sequence[str] = (),
    names: Sequence[str] = (),
    sharey: bool = True,
) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` panels of ``size`` (width, height in inches), below each other if narrow, with room for the
    legend of ``labels`` above and, on the left, for the rows' ``names``. Axes that are left over are removed."""
    across = 1 if narrow else min(across, count)
    down = -(-count // across)
    left = max(1.0, 0.15 + left_inches(names))
    width = NARROW_INCHES if narrow else left + size[0] * across
    _, lines = legend_shape(labels, width)
    height = down * size[1] + LEGEND_INCHES * lines
    figure, axes = plt.subplots(down, across, figsize=(width, height), sharey=sharey, squeeze=False)
    for axis in axes.flat[count:]:
        axis.remove()
    return figure, list(axes.flat[:count])


def legend_shape(labels: Sequence[str], width: float) -> tuple[int, int]:
    """How many columns of ``labels`` go into ``width`` inches, and how many lines they take."""
    if not labels:
        return 1, 0
    columns = max(1, min(len(labels), int(width / (0.6 + LETTER * max(map(len, labels))))))
    return columns, -(-len(labels) // columns)


def finish(figure: Figure, handles: Sequence[Line2D] = (), names: Sequence[str] = (), shared: bool = False) -> Figure:
    """Adds the legend, and arranges the panels under it. names: of rows, as ``panels`` has them; shared: panels beside
    each other have one y axis. The margins are reckoned, as measuring every text takes longer than drawing it."""
    width, height = figure.get_size_inches()
    columns, lines = legend_shape([str(handle.get_label()) for handle in handles], width)
    if handles:
        figure.legend(
            handles=handles, loc="upper center", bbox_to_anchor=(0.5, 1.0), ncols=columns, frameon=False,
            borderaxespad=0.1, columnspacing=1.2, handletextpad=0.5, labelspacing=0.35,
        )  # fmt: skip
    grid = figure.axes[0].get_gridspec()
    assert grid is not None  # of plt.subplots
    left = left_inches(names) if names else YAXIS_INCHES
    between = 0.2 if shared else YAXIS_INCHES + 0.1
    wide = (width - left - EDGE_INCHES - (grid.ncols - 1) * between) / grid.ncols
    top = TITLE_INCHES + lines * LEGEND_INCHES
    high = (height - top - XAXIS_INCHES - (grid.nrows - 1) * (XAXIS_INCHES + TITLE_INCHES)) / grid.nrows
    figure.subplots_adjust(
        left=left / width, right=1 - EDGE_INCHES / width, top=1 - top / height, bottom=XAXIS_INCHES / height,
        wspace=between / wide, hspace=(XAXIS_INCHES + TITLE_INCHES) / high,
    )  # fmt: skip
    return figure


def fitted(figure: Figure) -> Figure:
    """Arranges a figure whose texts are not those of ``panels``, by measuring them."""
    # figure.tight_layout() would leave an engine behind, for which every savefig draws all once more
    TightLayoutEngine().execute(figure)
    return figure


def left_inches(names: Sequence[str]) -> float:
    """What the rows' names take beside a panel."""
    return 0.25 + LETTER * max(map(len, names), default=0)


def dashes(look: Look) -> Any:
    """A row's dashes as matplotlib's linestyle."""
    return (0, DASHES[look.dash]) if DASHES[look.dash] else "-"


def shortened(name: str) -> str:
    """A row's name, cut where it would leave a figure no room."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
