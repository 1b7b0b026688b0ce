"""FT (Kim et al. 2018): an autoencoder (paraphraser) compresses the teacher's last map to factors for the student."""

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from sskd.config.settings import MethodSettings
from sskd.data.batch import Batch
from sskd.methods.base import METHODS, InitialStage, LossTerms, Method, MethodContext, MethodInfo
from sskd.methods.feature_maps import attention, match_sizes
from sskd.networks import Features

SLOPE = 0.1  # of the leaky ReLUs
PARAPHRASER_LR = 0.01  # as in the published code, if the student is a CIFAR ResNet or WRN


def factor_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean absolute difference of unit-length attention maps; 0-d. Kim et al. 2018 with p = 1.

    student, teacher: factors (B, C, H, W) float32; channels may differ. The larger map is pooled to the smaller.
    """
    student, teacher = match_sizes(student, teacher)
    return (attention(student) - attention(teacher)).abs().mean()


class Paraphraser(nn.Module):
    """Convolutional autoencoder of maps (B, C, H, W); its code, the factors, has C // 2 channels.

    In eval mode its parameters have requires_grad False, so that no optimiser changes them.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        factors = channels // 2
        self.encoder = nn.Sequential(
            *_leaky(nn.Conv2d(channels, channels, kernel_size=3, padding=1)),
            *_leaky(nn.Conv2d(channels, factors, kernel_size=3, padding=1)),
            *_leaky(nn.Conv2d(factors, factors, kernel_size=3, padding=1)),
        )
        self.decoder = nn.Sequential(
            *_leaky(nn.ConvTranspose2d(factors, factors, kernel_size=3, padding=1)),
            *_leaky(nn.ConvTranspose2d(factors, channels, kernel_size=3, padding=1)),
            *_leaky(nn.ConvTranspose2d(channels, channels, kernel_size=3, padding=1)),
        )

    def train(self, mode: bool = True) -> "Paraphraser":
        super().train(mode)
        self.requires_grad_(mode)
        if not mode:
            self.zero_grad(set_to_none=True)  # weight decay would change parameters with a left-over gradient
        return self

    def forward(self, maps: Tensor) -> Tensor:
        """Returns the reconstruction, in the shape of the maps."""
        return self.decoder(self.encoder(maps))


def _leaky(convolution: nn.Module) -> tuple[nn.Module, nn.Module]:
    return convolution, nn.LeakyReLU(SLOPE)


def translator(channels: int, factors: int) -> nn.Sequential:
    """Returns the student's translator: maps (B, channels, H, W) to factors (B, factors, H, W)."""
    layers: list[nn.Module] = []
    for before, after in ((channels, channels), (channels, factors), (factors, factors)):
        convolution = nn.Conv2d(before, after, kernel_size=3, padding=1)
        layers += [convolution, nn.BatchNorm2d(after), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers)


class FTSettings(MethodSettings):
    weight: NonNegativeFloat = 200.0
    """The weight of the method's term."""
    initial_epochs: PositiveInt = 30
    """Epochs of the initial stage, which trains the paraphraser."""


@METHODS.register("ft")
class FT(Method):
    """Trains the paraphraser in an initial stage and then freezes it; the translator is trained with the student."""

    Settings = FTSettings
    info = MethodInfo(
        "FT",
        "Kim et al., NeurIPS 2018, Paraphrasing Complex Network: Network Compression via Factor Transfer",
        2018,
        "factors of the last feature map",
        family="feature maps",
        url="https://arxiv.org/abs/1802.04977",
        code="https://github.com/Jangho-Kim/Factor-Transfer-pytorch",
        formula=r"w \operatorname{mean} \left| a(\tau(f^s_L)) - a(\epsilon(f^t_L)) \right|",
        where=r"$a$ as in AT. $\epsilon$ is the encoder of an autoencoder of the teacher's last map (the "
        r"paraphraser), which is trained first and then frozen; $\tau$ is the student's translator, trained "
        "with the student.",
    )
    required_features = frozenset({"feature_maps"})
    term_weights = {"ft": "weight"}
    stage_names = ("paraphraser", "main")

    def __init__(self, settings: FTSettings, context: MethodContext) -> None:
        super().__init__(settings, context)
        _, teacher = context.teacher_side()
        channels = teacher.feature_maps[-1][0]
        self.paraphraser = Paraphraser(channels)
        self.translator = translator(context.student_shapes.feature_maps[-1][0], channels // 2)
        small = context.student_shapes.network.startswith(("resnet", "wrn"))  # not ResNet50
        self._paraphraser_lr = PARAPHRASER_LR if small else None

    def train(self, mode: bool = True) -> "FT":
        """Sets the mode, but the paraphraser stays frozen: only its initial stage puts it into train mode."""
        super().train(mode)
        self.paraphraser.eval()
        return self

    def initial_stages(self) -> list[InitialStage]:
        return [
            InitialStage(
                "paraphraser",
                self.settings.initial_epochs,
                (self.paraphraser,),
                self._reconstruction_loss,
                learning_rate=self._paraphraser_lr,
                uses_student=False,
            )
        ]

    def _reconstruction_loss(self, student: Features | None, teacher: Features, batch: Batch) -> dict[str, Tensor]:
        maps = teacher.feature_maps[-1]
        return {"reconstruction": F.mse_loss(self.paraphraser(maps), maps)}

    def loss_terms(self, student: Features, teacher: Features, batch: Batch) -> LossTerms:
        with torch.no_grad():
            factors = self.paraphraser.encoder(teacher.feature_maps[-1])
        return LossTerms({"ft": factor_loss(self.translator(student.feature_maps[-1]), factors)})
