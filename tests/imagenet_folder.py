"""A folder like ImageNet's, of a few hundred small JPEGs that can be learned from: each class has its colours."""

from pathlib import Path

import numpy as np
from PIL import Image


def make_imagenet(folder: Path, classes: int = 5, per_class: int = 16, val_per_class: int = 6, seed: int = 0) -> Path:
    """train/<class>/*.JPEG and val/<class>/*.JPEG, of various sizes and shapes; in every class's training images one
    is grey and one CMYK."""
    rng = np.random.default_rng(seed)
    for part, count in (("train", per_class), ("val", val_per_class)):
        for label in range(classes):
            wnid = f"n{label:08d}"
            (folder / part / wnid).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                image = _image(rng, label, classes)
                if part == "train" and number < 2:
                    image = image.convert(("L", "CMYK")[number])
                image.save(folder / part / wnid / f"{wnid}_{number}.JPEG", quality=90)
    return folder


def _image(rng: np.random.Generator, label: int, classes: int) -> Image.Image:
    height, width = rng.integers(40, 100, 2)
    hue = int(255 * label / classes)
    patch = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    patch[..., 0] = np.clip(hue + rng.integers(-12, 13, (6, 6)), 0, 255)
    return Image.fromarray(patch, "HSV").convert("RGB").resize((int(width), int(height)), Image.Resampling.BICUBIC)


def truncate(file: Path) -> Path:
    """Cuts the second half of a file off."""
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    return file
