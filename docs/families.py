"""Draws docs/families/NAME.svg, for each family of methods what goes from the teacher to the student.

python docs/families.py
"""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

FOLDER = Path(__file__).resolve().parent / "families"
INK, GREY, BLUE, ORANGE = "#1b1f24", "#8a8f98", "#1f4e8c", "#c4541a"
TEACHER, STUDENT = 21.0, 3.0  # the heights of the two networks
NODES = {"images": 1.0, "maps": 17.0, "pooled features": 43.0, "logits": 60.0}  # their left edges
WIDTHS = {"images": 11.0, "maps": 21.0, "pooled features": 12.6, "logits": 9.0}
HEIGHT = 6.5


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    plt.rcParams.update({"font.size": 9, "text.color": INK, "svg.hashsalt": "families", "svg.fonttype": "none"})
    for name, draw in DRAWINGS.items():
        figure = plt.figure(figsize=(7.4, 2.6), facecolor="white")
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set(xlim=(0, 100), ylim=(0, 31.5))
        axes.axis("off")
        draw(axes)
        figure.savefig(FOLDER / f"{name}.svg", facecolor="white", metadata={"Date": None})
        plt.close(figure)


def logits(axes: Axes) -> None:
    draw_networks(axes, {"logits"})
    compare(axes, "logits", "divergence of the\nsoftened predictions")


def feature_maps(axes: Axes) -> None:
    draw_networks(axes, {"maps", "pooled features"})
    compare(axes, "maps", "error of the maps,\noften after a\ntrained projection", aside=50.0)
    both_ways(axes, middle("pooled features") - 3)


def relations(axes: Axes) -> None:
    draw_networks(axes, {"pooled features"}, nodes=("images", "maps", "pooled features"))
    for height, seed in ((TEACHER, 0), (STUDENT, 1)):
        arrow(axes, (55.8, height + HEIGHT / 2), (61.2, height + HEIGHT / 2))
        matrix(axes, 62.0, height - 1.2, relation_matrix(seed))
    axes.text(67.0, 31.2, "images x images", fontsize=8, ha="center", va="top")
    both_ways(axes, 67.0, 13.0, 18.6)
    axes.text(74.5, 15.8, "difference of the relations\n(similarities, distances,\nangles) between images", va="center")


def contrast(axes: Axes) -> None:
    draw_networks(axes, {"pooled features"}, nodes=("images", "maps", "pooled features"))
    for height, colour in ((TEACHER, INK), (STUDENT, ORANGE)):
        arrow(axes, (55.8, height + HEIGHT / 2), (61.2, height + HEIGHT / 2))
        axes.plot(64.0, height + HEIGHT / 2, "o", color=colour, ms=9)
    axes.text(67.0, TEACHER + HEIGHT / 2, "teacher's embedding of the image", va="center")
    axes.text(67.0, STUDENT + HEIGHT / 2, "student's embedding of the image", va="center")
    both_ways(axes, 64.0, STUDENT + HEIGHT / 2 + 2.4, TEACHER + HEIGHT / 2 - 2.4)
    axes.text(65.5, 18.2, "pull together", color=BLUE, va="center", fontsize=8)
    for place in range(5):
        axes.plot(79.0 + 3.6 * place, 14.0, "o", color=GREY, ms=7)
    axes.text(78.0, 17.2, "embeddings of other images", fontsize=7.5, va="center")
    arrow(axes, (78.0, 13.2), (66.4, STUDENT + HEIGHT / 2 + 1.2), GREY)
    axes.text(72.6, 8.8, "push apart", color=GREY, va="center", fontsize=8)


def self_supervision(axes: Axes) -> None:
    nodes = ("images", "maps", "pooled features")
    draw_networks(axes, {"pooled features"}, nodes=nodes, images="images and\ntheir views")
    for height, seed in ((TEACHER, 2), (STUDENT, 3)):
        box(axes, 60.0, height, 9.0, "head", True)
        arrow(axes, (55.4, height + HEIGHT / 2), (59.6, height + HEIGHT / 2))
        arrow(axes, (69.4, height + HEIGHT / 2), (72.8, height + HEIGHT / 2))
        matrix(axes, 73.4, height - 1.2, relation_matrix(seed))
    axes.text(78.4, 31.2, "views x images", fontsize=8, ha="center", va="top")
    both_ways(axes, 78.4, 13.0, 18.6)
    axes.text(80.4, 15.8, "divergence of\nthe answers", va="center", color=INK)


DRAWINGS: dict[str, Callable[[Axes], None]] = {
    "logits": logits,
    "feature-maps": feature_maps,
    "relations": relations,
    "contrast": contrast,
    "self-supervision": self_supervision,
}


def draw_networks(
    axes: Axes, coloured: set[str], nodes: tuple[str, ...] = tuple(NODES), images: str = "images"
) -> None:
    """Draws teacher and student as chains of boxes; those that the method reads are coloured."""
    for height, name in ((TEACHER, "teacher (frozen)"), (STUDENT, "student (trained)")):
        axes.text(middle("maps"), height + HEIGHT + 0.7, name, ha="center", va="bottom", weight="bold")
        for node in nodes:
            box(axes, NODES[node], height, WIDTHS[node], images if node == "images" else node, node in coloured)
        for before, after in pairwise(nodes):
            start = NODES[before] + WIDTHS[before] + 0.4
            arrow(axes, (start, height + HEIGHT / 2), (NODES[after] - 0.4, height + HEIGHT / 2))


def middle(node: str) -> float:
    return NODES[node] + WIDTHS[node] / 2


def compare(axes: Axes, node: str, text: str, aside: float = 0.0) -> None:
    """Draws the comparison of one node of both networks, with a text next to the arrow."""
    both_ways(axes, middle(node))
    axes.text(aside or middle(node) + 2, (TEACHER + STUDENT + HEIGHT) / 2, text, va="center")


def both_ways(axes: Axes, x: float, lower: float = STUDENT + HEIGHT + 0.6, upper: float = TEACHER - 0.6) -> None:
    if lower < STUDENT + HEIGHT + 4 and x < middle("maps") + 1 > x - 1:
        lower += 2.6  # above the network's name
    axes.add_patch(FancyArrowPatch((x, upper), (x, lower), arrowstyle="<|-|>", mutation_scale=11, color=BLUE, lw=1.8))


def box(axes: Axes, x: float, y: float, width: float, text: str, coloured: bool) -> None:
    style = "round,pad=0,rounding_size=0.8"
    edge, fill = (BLUE, "#e6eef8") if coloured else (GREY, "white")
    axes.add_patch(FancyBboxPatch((x, y), width, HEIGHT, boxstyle=style, fc=fill, ec=edge, lw=1.3))
    axes.text(x + width / 2, y + HEIGHT / 2, text, ha="center", va="center", fontsize=8)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str = INK) -> None:
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=9, color=colour, lw=1.0))


def relation_matrix(seed: int) -> np.ndarray:
    """Returns a made-up matrix of relations (5, 5): large on the diagonal."""
    return np.eye(5) + 0.55 * np.random.default_rng(seed).random((5, 5))


def matrix(axes: Axes, x: float, y: float, values: np.ndarray) -> None:
    axes.imshow(values, extent=(x, x + 10.0, y, y + 9.0), cmap="Blues", vmin=0, vmax=1.6, aspect="auto")
    axes.set(xlim=(0, 100), ylim=(0, 31.5))


if __name__ == "__main__":
    main()
