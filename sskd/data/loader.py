"""Batches from a training set that lies on the device as one uint8 tensor: order, views and crops from the seed."""

from collections.abc import Iterator

import torch
from torch import Tensor

from sskd.data.augment import Augmentation
from sskd.data.batch import Batch
from sskd.data.views import Views
from sskd.errors import UserError
from sskd.seeding import generator, stream_seed

Triple = tuple[float, float, float]


class TrainLoader:
    """Epochs of batches. Every step draws from its own named stream, so an epoch can be entered at any step."""

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        mean: Triple,
        std: Triple,
        batch_size: int,
        views: Views,
        augmentation: Augmentation,
        seed: int,
        channels_last: bool = True,
        stream: str = "main",
    ) -> None:
        """images: (n, 3, H, W) uint8 on the device. labels: (n,) int64 there. mean, std: of pixels / 255."""
        if batch_size > len(images):
            raise UserError(
                f"recipe.batch_size is {batch_size}, but the training set has {len(images)} images: "
                "use a smaller batch or a larger split.fraction"
            )
        self.images, self.labels = images, labels
        self.batch_size, self.views, self.augmentation = batch_size, views, augmentation
        self.seed, self.stream = seed, stream
        self.normalise = Normalise(mean, std, images.device, channels_last)

    def __len__(self) -> int:
        """Steps in an epoch: the last, smaller batch counts, unless it is a single image (batch norm needs two)."""
        full, rest = divmod(len(self.images), self.batch_size)
        return full + (rest > 1)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from step ``start`` on, the same whether or not those before were made."""
        device = self.images.device
        # on the CPU: one order for every device
        order = torch.randperm(len(self.images), generator=generator("cpu", self.seed, self.stream, "order", epoch))
        order = order.to(device)
        draws = torch.Generator(device=device)
        for step in range(start, len(self)):
            indices = order[step * self.batch_size : (step + 1) * self.batch_size]
            draws.manual_seed(stream_seed(self.seed, self.stream, "step", epoch, step))
            images, view_labels = self.views(self.images[indices], self.augmentation, draws)
            yield Batch(self.normalise(images), self.labels[indices], indices, view_labels, draws)


class Normalise:
    """Pixels 0 to 255 to (pixel / 255 - mean) / std in float32, as one multiplication and one addition."""

    def __init__(self, mean: Triple, std: Triple, device: torch.device, channels_last: bool) -> None:
        scale, shift = 1 / torch.tensor(std), -torch.tensor(mean) / torch.tensor(std)
        self._scale = (scale / 255).view(1, 3, 1, 1).to(device)
        self._shift = shift.view(1, 3, 1, 1).to(device)
        self._layout = torch.channels_last if channels_last else torch.contiguous_format

    def __call__(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) of any real type to float32."""
        floats = images.to(torch.float32, memory_format=self._layout)
        return torch.addcmul(self._shift, floats, self._scale)


def eval_batches(
    images: Tensor, labels: Tensor, mean: Triple, std: Triple, batch_size: int, channels_last: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """All images in order, normalised and otherwise untouched, with their labels."""
    normalise = Normalise(mean, std, images.device, channels_last)
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        yield normalise(images[part]), labels[part]
