"""Published data sets: files of another content than torchvision's are found, told, and left as they are."""

from pathlib import Path

import pytest

from sskd.config.recipe import DatasetSpec
from sskd.data.datasets.registry import load_dataset
from sskd.errors import UserError


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cifar100", "cifar-100-python/train"),
        ("cifar100", "cifar-100-python/meta"),
        ("cifar10", "cifar-10-batches-py/data_batch_3"),
        ("svhn", "test_32x32.mat"),
        ("fashion-mnist", "FashionMNIST/raw/train-images-idx3-ubyte.gz"),
    ],
)
def test_files_that_are_not_torchvisions_are_found_and_kept(tmp_path: Path, name: str, file: str) -> None:
    """No download is tried, which would overwrite them."""
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_bytes(b"of another source")
    load_dataset.cache_clear()
    with pytest.raises(UserError, match=f"{file} is not torchvision's file") as error:
        load_dataset(DatasetSpec(name=name), tmp_path)
    assert "downloaded" not in str(error.value).partition("): ")[0]
    assert (tmp_path / file).read_bytes() == b"of another source"
