"""Linear probes: the accuracy of a linear classifier on a network's frozen features of other images.

CRD (Tian et al., ICLR 2020, table 4) measures the transferability of features in this way: a linear classifier on the
layer before the logits, with all images resized to the size that the student was trained on. The training of the
classifier is ours: multinomial logistic regression by L-BFGS on standardised features, which is convex and needs no
seed, batches or learning rate.
"""

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sskd.config.execution import Execution
from sskd.config.probe import ProbeSettings
from sskd.config.recipe import DatasetSpec
from sskd.data.datasets.registry import Data, ImageData, load_dataset
from sskd.errors import UserError
from sskd.networks import Network
from sskd.networks.hooked import resized
from sskd.networks.weights import load_network
from sskd.runs.run_folder import RunFolder
from sskd.runs.spec import RunSpec, TeacherSpec
from sskd.runs.trained import NetworkInfo, describe_network, load_student, statistics
from sskd.runtime.device import device_of

BATCH = 500


def probe_file(folder: RunFolder, dataset: DatasetSpec, settings: ProbeSettings) -> Path:
    """Returns the file of a probe's result, in the run's folder."""
    meant = {"dataset": dataset.model_dump(mode="json", exclude_defaults=True)}
    meant |= settings.model_dump(mode="json", exclude={"datasets"})
    digest = hashlib.sha256(json.dumps(meant, sort_keys=True).encode()).hexdigest()[:8]
    return folder.path / f"probe-{dataset.name}-{digest}.json"


def probe_run(spec: RunSpec, runs: Path, data: Data, settings: ProbeSettings, execution: Execution) -> dict[str, Any]:
    """Probes the last weights of a finished run. Returns top1 and train_top1 (%), iterations, numbers of images and
    features, and seconds. Raises UserError if there are no weights, or if the images are not in memory."""
    if not isinstance(data, ImageData):
        raise UserError(
            f"a linear probe needs a data set in memory, but the images of '{data.name}' are read from files"
        )
    started, device = time.perf_counter(), device_of(execution)
    network, info = _network_of(spec, runs, execution)
    network = network.to(device).eval().requires_grad_(False)
    train = _features(network, info, data.train_images, device)
    test = _features(network, info, data.test_images, device)
    measured = linear_probe(
        (train, data.train_labels.to(device)), (test, data.test_labels.to(device)), data.num_classes, settings
    )
    return measured | {
        "dataset": data.name,
        "image_size": info.image_size,
        "train_images": len(train),
        "test_images": len(test),
        "features": train.shape[1],
        "seconds": round(time.perf_counter() - started, 1),
    }


def _network_of(spec: RunSpec, runs: Path, execution: Execution) -> tuple[Network, NetworkInfo]:
    """Returns the network of a run with its last weights, or a teacher with given weights, and its NetworkInfo."""
    if not (isinstance(spec, TeacherSpec) and spec.teacher is not None):
        return load_student(RunFolder(runs, spec).path, "last")
    given, own = spec.teacher, load_dataset(spec.dataset, Path(execution.dataset_root))
    info = describe_network(spec, own)
    network = load_network(
        given.weights, spec.network, own.num_classes, spec.used_as, given.which, images=statistics(info)
    )
    return network, info


def _features(network: Network, info: NetworkInfo, images: Tensor, device: torch.device) -> Tensor:
    """Returns pooled features (N, D) float32 of (N, 3, H, H) uint8, resized and normalised as the network's own
    images, without augmentation."""
    vectors = []
    for batch in images.split(BATCH):
        small = resized(batch.to(device).float(), info.image_size)
        with torch.inference_mode():
            vectors.append(network.features(info.normalise(small)).pooled.float())
    return torch.cat(vectors)


Labelled = tuple[Tensor, Tensor]  # features (N, D) float32, labels (N,) int64


def linear_probe(train: Labelled, test: Labelled, num_classes: int, settings: ProbeSettings) -> dict[str, Any]:
    """Fits a multinomial logistic regression, from zero weights. Returns top1 of the test features and train_top1 of
    the training features (%), and the number of iterations."""
    mean, deviation = train[0].mean(0), train[0].std(0).clamp(min=1e-6)
    x, y = (train[0] - mean) / deviation, train[1]
    weight = torch.zeros(num_classes, x.shape[1], device=x.device, requires_grad=True)
    bias = torch.zeros(num_classes, device=x.device, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=settings.iterations,
        tolerance_grad=1e-5,
        tolerance_change=1e-9,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(x, weight, bias), y) + settings.l2 * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    with torch.no_grad():
        right = [
            (F.linear((features - mean) / deviation, weight, bias).argmax(1) == labels).double().mean().item()
            for features, labels in (test, train)
        ]
    iterations = optimizer.state[optimizer.param_groups[0]["params"][0]]["n_iter"]
    return {"top1": 100 * right[0], "train_top1": 100 * right[1], "iterations": iterations}
