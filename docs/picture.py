"""Draws the picture at the head of README: how SSKD works, and what it gave with few images of CIFAR-100.

    python docs/picture.py        # writes docs/picture.png

The left half shows one of the embedded digits and its views. The right half draws the committed runs of
results/miniature.
"""

import csv
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from sskd.config.recipe import DatasetSpec
from sskd.data.datasets.registry import load_dataset

ROOT = Path(__file__).resolve().parent.parent
INK, GREY, BLUE, ORANGE, PURPLE, GREEN = "#1b1f24", "#6d6d6d", "#1f4e8c", "#c4541a", "#8e3b8a", "#1c7a55"
METHODS = {"SSKD": ORANGE, "KD": BLUE, "CRD": PURPLE, "AT": GREEN, "Student": GREY}


def main() -> None:
    plt.rcParams.update({"font.size": 11, "text.color": INK, "axes.edgecolor": INK, "axes.labelcolor": INK})
    figure = plt.figure(figsize=(13, 4.8), dpi=110, facecolor="white")
    method = figure.add_axes((0.005, 0.0, 0.62, 1.0))
    draw_method(method)
    draw_few_shot(figure.add_axes((0.725, 0.14, 0.265, 0.72)))
    figure.savefig(ROOT / "docs" / "picture.png", facecolor="white")


def draw_method(axes: Axes) -> None:
    axes.set(xlim=(0, 100), ylim=(0, 62))
    axes.axis("off")
    axes.text(1, 57.5, "What SSKD transfers", fontsize=13, weight="bold")
    draw_views(axes)
    box(axes, 24, 37, 18, 11, "teacher", "trained, frozen", INK)
    box(axes, 24, 10, 18, 11, "student", "small, learns", ORANGE)
    for y in (42.5, 15.5):
        arrow(axes, (18.8, 29.6 + (y - 29) / 2.6), (23.4, y))
    outputs = ("class of the image", "classes of its views", "which image is each view from?")
    for row, name in enumerate(outputs):
        upper, lower = 49.5 - 6.2 * row, 21.5 - 6.2 * row
        output(axes, 49, upper, name, INK)
        output(axes, 49, lower, name, ORANGE)
        arrow(axes, (42.4, 42.5), (48.6, upper), INK, 0.8)
        arrow(axes, (42.4, 15.5), (48.6, lower), ORANGE, 0.8)
    axes.plot([77.5, 79, 79, 77.5], [51.5, 51.5, 34.8, 34.8], color=INK, lw=1)
    axes.plot([77.5, 79, 79, 77.5], [23.5, 23.5, 6.8, 6.8], color=ORANGE, lw=1)
    box(axes, 83.5, 36.5, 14, 13.5, "compared", "three KL\ndivergences", BLUE)
    arrow(axes, (79.2, 43.1), (82.9, 43.1), INK)
    arrow(axes, (79.2, 15.1), (90.5, 36.1), ORANGE)
    axes.text(
        47,
        28.8,
        "selectively: all correct answers of the\nteacher, and the best 75 % of the others",
        fontsize=10,
        style="italic",
        va="center",
        color=BLUE,
    )


def draw_views(axes: Axes) -> None:
    image = load_dataset(DatasetSpec(name="digits16"), ROOT / "data").train_images[4, 0].numpy()
    for turns in range(4):
        left, bottom = 0.6 + 9.2 * (turns % 2), 30 - 9.6 * (turns // 2)
        axes.imshow(np.rot90(image, turns), extent=(left, left + 8.4, bottom, bottom + 8.75), cmap="gray_r", zorder=2)
        axes.add_patch(plt.Rectangle((left, bottom), 8.4, 8.75, fill=False, ec=GREY, lw=0.8, zorder=3))
    axes.set_aspect("auto")
    axes.set(xlim=(0, 100), ylim=(0, 62))
    axes.text(9.4, 40.5, "an image and its\ntransformed views", fontsize=10, ha="center", va="bottom")


def box(axes: Axes, x: float, y: float, width: float, height: float, title: str, text: str, colour: str) -> None:
    style = "round,pad=0.3,rounding_size=1.5"
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=style, fc="white", ec=colour, lw=2))
    lines = text.count("\n")
    axes.text(x + width / 2, y + height * 0.66, title, ha="center", va="center", weight="bold", color=colour)
    axes.text(x + width / 2, y + height * (0.30 + 0.02 * lines), text, ha="center", va="center", fontsize=10)


def output(axes: Axes, x: float, y: float, text: str, colour: str) -> None:
    axes.text(x, y, text, va="center", fontsize=10.5, color=colour)


def arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str = INK, width: float = 1.2
) -> None:
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=11, color=colour, lw=width))


def draw_few_shot(axes: Axes) -> None:
    """A dot for each seed, a bar at their mean."""
    accuracies = read_accuracies()
    ticks: list[tuple[float, str]] = []
    for group, column in enumerate(("25%", "10%")):
        for place, (name, colour) in enumerate(METHODS.items()):
            y, values = -(group * 6.5 + place), accuracies[name, column]
            axes.plot(values, [y] * len(values), "o", color=colour, alpha=0.55, ms=6, mec="none")
            axes.plot([np.mean(values)] * 2, [y - 0.36, y + 0.36], color=colour, lw=2.6)
            label = "student alone" if name == "Student" else name
            ticks.append((y, label))
            axes.text(53.6, y, f"{np.mean(values):.1f}", fontsize=10, ha="right", va="center", color=colour)
        axes.text(32.2, -(group * 6.5) + 0.95, f"{column[:-1]} % of CIFAR-100", fontsize=10, style="italic")
    axes.set(xlim=(32, 53.8), ylim=(-11.2, 1.8), xlabel="top-1 accuracy in the last epoch, %")
    axes.set_yticks([y for y, _ in ticks], [label for _, label in ticks])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#e4e4e4")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    (teacher,) = accuracies["Teacher", "resnet20/resnet8"]
    arrow(axes, (51.4, 1.4), (53.8, 1.4))
    axes.text(51.2, 1.4, f"teacher {teacher:.1f}", fontsize=10, ha="right", va="center")
    axes.set_title("With few images (a dot for each seed)", fontsize=13, weight="bold", loc="right", pad=10)


def read_accuracies() -> dict[tuple[str, str], list[float]]:
    found: dict[tuple[str, str], list[float]] = {}
    with (ROOT / "results" / "miniature" / "runs.csv").open(encoding="utf-8", newline="") as file:
        for run in csv.DictReader(file):
            wanted = run["benchmark"] == "fig4a" or run["row"] == "Teacher"
            if wanted and run["state"] == "finished" and run["last_top1"]:
                found.setdefault((run["row"], run["column"]), []).append(float(run["last_top1"]))
    return {key: values if key[0] != "Teacher" else values[:1] for key, values in found.items()}


if __name__ == "__main__":
    main()
