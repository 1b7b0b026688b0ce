"""A method's epochs before the main training, in a loop of one's own."""

from collections.abc import Callable

from torch import Tensor, nn

from sskd.methods import InitialStage


class DistillerStage:
    """Epochs in which some modules learn from the teacher by a loss of their own.

    name, epochs: as the method has them. learning_rate: the method's own, None where it takes the loop's.
    """

    def __init__(self, stage: InitialStage, step: Callable[..., tuple[Tensor, dict[str, Tensor]]]) -> None:
        self._trained, self._step = stage.trained, step
        self.name, self.epochs, self.learning_rate = stage.name, stage.epochs, stage.learning_rate

    def parameters(self) -> list[nn.Parameter]:
        """Returns what the stage trains, each parameter once."""
        unique = {id(p): p for module in self._trained for p in module.parameters() if p.requires_grad}
        return list(unique.values())

    def __call__(
        self, images: Tensor, labels: Tensor, indices: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the stage's loss (0-d, with gradient) and its terms by name (0-d, detached)."""
        return self._step(images, labels, indices)
