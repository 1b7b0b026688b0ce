"""Features of a student on test images (figure 3a): computed once from the last weights and cached as features.npz.

The cache has the vectors (N, D) float32, labels (N,) int64, their silhouette and, for runs that are drawn, the t-SNE
layout (N, 2).
"""

import contextlib
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.tables.cell import Cell
from sskd.config.execution import Execution
from sskd.data.datasets.registry import load_dataset
from sskd.errors import UserError
from sskd.runs.files import write_atomically
from sskd.runs.run_folder import RunFolder
from sskd.runs.spec import RunSpec
from sskd.runs.trained import describe_network, load_described, with_predictor
from sskd.training.evaluation import image_vectors

CLASSES = 10  # the first ten: more colours are hard to distinguish; 1,000 test images of CIFAR-100 suffice
Arrays = dict[str, np.ndarray]
Layouts = dict[str, tuple[np.ndarray, np.ndarray, float]]  # row to layout (N, 2), labels (N,), silhouette


def features_of(spec: RunSpec, runs: Path, execution: Execution, layout: bool = False) -> Arrays:
    """Returns the run's cached features, computing them if needed; with ``layout`` also the t-SNE layout. Raises
    UserError without weights."""
    folder = RunFolder(runs, spec)
    cache = folder.path / "features.npz"
    arrays = _read(cache)
    before = len(arrays)
    if not arrays:
        weights = folder.weights("last")
        if not weights.exists():
            raise UserError("no features: neither last.safetensors nor features.npz is in the run's folder")
        data = load_dataset(spec.dataset, Path(execution.dataset_root))
        network = load_described(with_predictor(describe_network(spec, data), spec), weights)
        vectors, labels = image_vectors(network, data, CLASSES)
        arrays = {"vectors": vectors.numpy(), "labels": labels.numpy()}
        arrays["silhouette"] = np.array(_silhouette(arrays))
    if layout and "layout" not in arrays:
        from sklearn.manifold import TSNE  # imported here because it is slow and most reports do not need it

        # perplexity must be below the number of points: small test sets need less than the default 30
        perplexity = min(30.0, (len(arrays["vectors"]) - 1) / 3)
        tsne = TSNE(perplexity=perplexity, init="pca", random_state=0)
        arrays["layout"] = tsne.fit_transform(arrays["vectors"]).astype(np.float32)
    if len(arrays) != before:
        with contextlib.suppress(UserError):  # only a cache: the report also works in a read-only folder
            write_atomically(cache, lambda file: np.savez_compressed(file, **arrays))  # type: ignore[arg-type]
    return arrays


def _silhouette(arrays: Arrays) -> float:
    from sklearn.metrics import silhouette_score

    try:
        return float(silhouette_score(arrays["vectors"], arrays["labels"]))
    except ValueError as error:  # a single class, or features that are not finite
        raise UserError(f"no silhouette: {' '.join(str(error).split())}") from None


def _read(cache: Path) -> Arrays:
    try:
        with np.load(cache, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):  # absent or damaged: computed again
        return {}
    return arrays if {"vectors", "labels", "silhouette"} <= arrays.keys() else {}


def add_features(
    frame: pd.DataFrame, cells: Iterable[Cell], benchmark: str, runs: Path, execution: Execution
) -> tuple[pd.DataFrame, Layouts]:
    """Adds the column "silhouette" for one benchmark's finished runs, or the reason in "why". Returns also the t-SNE
    layout of each row's first run with weights."""
    frame, layouts = frame.copy(), Layouts()
    own = frame[(frame["benchmark"] == benchmark) & (frame["state"] == "finished")]
    specs = {cell.spec.id: cell.spec for cell in cells}
    for index, row, run_id in zip(own.index, own["row"], own["id"], strict=True):
        first = row not in layouts
        try:
            arrays = features_of(specs[run_id], runs, execution, layout=first)
        except UserError as error:
            frame.loc[index, "why"] = str(error)
            continue
        frame.loc[index, "silhouette"] = silhouette = float(arrays["silhouette"])
        if first:
            layouts[row] = (arrays["layout"], arrays["labels"], silhouette)
    return frame, layouts
