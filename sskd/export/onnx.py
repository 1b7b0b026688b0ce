"""Exports a network to ONNX and checks it with ONNX Runtime."""

import importlib.util
import logging
import warnings
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sskd.errors import UserError
from sskd.networks import Network
from sskd.runs.files import plain_os_errors

TOLERANCE = 1e-4  # largest difference between the logits of torch and of ONNX Runtime
NEEDED = ("onnx", "onnxscript", "onnxruntime")
BATCHES = (1, 3, 8)  # batch sizes of the check; the example of the export has another, so the size must be dynamic


def require_onnx() -> None:
    """Raises UserError, with the pip command, if a package of the extra is missing."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"--onnx needs {', '.join(missing)}: pip install {' '.join(missing)}")


def write_onnx(network: Network, image_size: int, file: Path) -> float:
    """Writes the network (float32, eval mode) for any batch size, from "images" (N, 3, H, W) to "logits" (N, C), and
    checks it.

    Returns the largest difference from torch's logits. Raises UserError, and leaves no file, if it exceeds TOLERANCE or
    if the network cannot be exported.
    """
    draft = file.with_name(f"{file.name}.partial")
    try:
        _export(network, image_size, draft)
        difference = greatest_difference(network, image_size, draft)
        if not difference <= TOLERANCE:
            raise UserError(
                f"ONNX Runtime's logits differ from torch's by {difference:.2g}, more than {TOLERANCE:g}: not exported"
            )
        with plain_os_errors("write", file):
            draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
    return difference


def greatest_difference(network: Network, image_size: int, file: Path) -> float:
    """Returns the largest difference between torch's and ONNX Runtime's logits, over batches of several sizes of
    random images."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    differences = []
    for size in BATCHES:
        images = _made_images(size, image_size)
        with torch.inference_mode():
            ours = network(images)
        theirs = torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])
        if theirs.shape != ours.shape:
            raise UserError(f"ONNX Runtime gives logits of shape {tuple(theirs.shape)}, torch {tuple(ours.shape)}")
        differences.append(float((ours - theirs).abs().max()))
    return max(differences)


def _export(network: Network, image_size: int, file: Path) -> None:
    batch = torch.export.Dim("batch", min=1)
    options: dict[str, Any] = {
        "input_names": ["images"],
        "output_names": ["logits"],
        "dynamic_shapes": ({0: batch},),
        "external_data": False,  # one file
        "dynamo": True,
        "verbose": False,
    }
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), plain_os_errors("write", file):
            warnings.simplefilter("ignore")  # from torch's exporter
            torch.onnx.export(network, (_made_images(2, image_size),), str(file), **options)
    except UserError:
        raise
    except Exception as error:  # from the exporter, for the user's own network
        raise UserError(f"torch cannot export this network as ONNX: {' '.join(str(error).split())[:300]}") from None
    finally:
        logging.getLogger("torch.onnx").setLevel(level)


def _made_images(count: int, size: int) -> Tensor:
    """Returns random images (count, 3, size, size) in the range of normalised images; the same for the same count."""
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(count))
