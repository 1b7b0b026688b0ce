"""Batches: every image once, the last small batch, order from the seed, and entering an epoch anywhere."""

import weakref
from itertools import islice

import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from sskd.data.augment import Augmentation
from sskd.data.batch import LoaderConfig
from sskd.data.datasets.registry import ImageData
from sskd.data.memory_loader import SamplingConfig, TrainLoader, eval_batches
from sskd.data.splits import Subset
from sskd.data.views import Rotations, SingleView
from sskd.errors import UserError
from sskd.runtime.distributed import Rank

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


def loader(count: int = 20, batch: int = 6, seed: int = 0, rotations: bool = False, **options: object) -> TrainLoader:
    images = torch.randint(256, (count, 3, 8, 8), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
    views = Rotations() if rotations else SingleView()
    augmentation = options.pop("augmentation", Augmentation(2, True))
    config = options.pop("config", LoaderConfig(torch.device("cpu")))
    sampling = SamplingConfig(batch, views, augmentation, seed, **options)  # type: ignore[arg-type]
    return TrainLoader(images, torch.arange(count) % 3, MEAN, STD, sampling, config)  # type: ignore[arg-type]


@pytest.mark.parametrize(("count", "sizes"), [(20, [6, 6, 6, 2]), (19, [6, 6, 6]), (18, [6, 6, 6])])
def test_every_image_once_and_the_last_batch(count: int, sizes: list[int]) -> None:
    """The smaller last batch is used; a single left-over image cannot be (batch norm)."""
    batches = list(loader(count).epoch(0))
    assert [len(batch.labels) for batch in batches] == sizes
    assert len(loader(count)) == len(sizes)
    seen = torch.cat([batch.indices for batch in batches]).tolist()
    assert len(set(seen)) == len(seen) == sum(sizes)
    for batch in batches:
        assert torch.equal(batch.labels, batch.indices % 3)


@pytest.mark.parametrize("rotations", [False, True])
def test_an_epoch_entered_half_way_is_the_same(rotations: bool) -> None:
    """A CUDA graph only contains ``make``, so the order and ``make`` together must give the same batches."""
    made, draws = loader(rotations=rotations), torch.Generator()
    whole = islice(loader(rotations=rotations).epoch(3), 1, None)
    for early, late, (step, indices) in zip(whole, made.epoch(3, start=1), made.order(3, start=1), strict=True):
        again = made.make(indices, draws.manual_seed(made.step_seed(3, step)))
        drawn = torch.rand(1, generator=early.generator)
        for other in (late, again):
            assert torch.equal(other.images, early.images)
            assert torch.equal(other.labels, early.labels)
            assert torch.equal(other.indices, early.indices)
            assert other.global_batch_size == early.global_batch_size
            assert torch.rand(1, generator=other.generator) == drawn


def test_the_numbers_stay() -> None:
    """A run of seed 0 sees these images in its second epoch: others would be another run under the same id."""
    batch = next(iter(loader(rotations=True).epoch(1)))
    assert batch.indices.tolist() == [1, 10, 7, 11, 2, 4]
    found = batch.images.double().sum().item(), torch.rand(1, generator=batch.generator).item()
    assert found == pytest.approx((-1054.8068947, 0.8312154), abs=1e-4)


def test_what_is_evaluated_stays_on_the_device_as_long_as_the_data_set() -> None:
    images, labels = torch.arange(18, dtype=torch.uint8).view(6, 3, 1, 1), torch.arange(6)
    data = ImageData("made", images, labels, images + 1, labels, MEAN, STD, ("a",) * 6)
    subset, meta = Subset(torch.tensor([1, 4]), torch.tensor([2, 3])), torch.device("meta")  # any but the CPU
    test, part = data._placed(None, meta), data._placed(subset, meta)
    assert (test[0].shape, part[0].shape, part[1].device) == ((6, 3, 1, 1), (2, 3, 1, 1), meta)
    assert data._placed(None, meta) is test
    assert data._placed(subset, meta) is part
    assert torch.equal(data._placed(subset, torch.device("cpu"))[0], images[[1, 4]])
    held = [weakref.ref(tensor) for tensor in (*test, *part)]
    del test, part, data
    assert [tensor() for tensor in held] == [None] * 4


@pytest.mark.parametrize("channels_last", [True, False])
def test_normalised_as_torchvision(channels_last: bool) -> None:
    config = LoaderConfig(torch.device("cpu"), channels_last)
    made = loader(config=config, augmentation=Augmentation(0, False))
    batch = next(iter(made.epoch(0)))
    expected = tv.normalize(made.images[batch.indices].float() / 255, list(MEAN), list(STD))
    torch.testing.assert_close(batch.images, expected)
    assert batch.images.is_contiguous(memory_format=torch.channels_last) is channels_last
    parts = list(eval_batches(made.images, made.labels, MEAN, STD, 7, channels_last))
    torch.testing.assert_close(
        torch.cat([images for images, _ in parts]), tv.normalize(made.images.float() / 255, list(MEAN), list(STD))
    )
    assert torch.equal(torch.cat([labels for _, labels in parts]), made.labels)


@pytest.mark.parametrize("rotations", [False, True])
def test_the_parts_of_several_processes_are_the_whole(rotations: bool) -> None:
    whole = list(loader(count=18, rotations=rotations).epoch(1))
    configs = [LoaderConfig(torch.device("cpu"), rank=Rank(rank, 3)) for rank in range(3)]
    parts = [list(loader(count=18, rotations=rotations, config=config).epoch(1)) for config in configs]
    for step, batch in enumerate(whole):
        own = [part[step] for part in parts]
        assert torch.equal(batch.images, torch.cat([part.images for part in own]))
        assert torch.equal(batch.labels, torch.cat([part.labels for part in own]))
        assert torch.equal(batch.indices, torch.cat([part.indices for part in own]))
        draws = [torch.rand(3, generator=made.generator) for made in (batch, *own)]
        assert all(torch.equal(draws[0], other) for other in draws[1:])


def test_batch_larger_than_the_subset() -> None:
    with pytest.raises(UserError, match="batch_size is 64, but the training set has 20 images"):
        loader(20, 64)
