"""Initial stages of a method, for other training loops."""

from collections.abc import Callable

from torch import Tensor, nn

from sskd.methods import InitialStage


class DistillerStage:
    """Epochs before the main training, in which some modules are trained with their own loss.

    learning_rate: the method's; None: use the loop's.
    """

    def __init__(self, stage: InitialStage, step: Callable[..., tuple[Tensor, dict[str, Tensor]]]) -> None:
        self._trained, self._step = stage.trained, step
        self.name, self.epochs, self.learning_rate = stage.name, stage.epochs, stage.learning_rate

    def parameters(self) -> list[nn.Parameter]:
        """Returns the parameters that the stage trains, each once."""
        return [p for p in nn.ModuleList(self._trained).parameters() if p.requires_grad]

    def __call__(
        self, images: Tensor, labels: Tensor, indices: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the stage's loss (0-d, with gradient) and its terms by name (0-d, detached)."""
        return self._step(images, labels, indices)
