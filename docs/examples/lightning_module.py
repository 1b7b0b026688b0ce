"""Distils in a LightningModule, on the digits of scikit-learn: python docs/examples/lightning_module.py [METHOD]"""

import sys

import lightning
import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import resnet18, shufflenet_v2_x0_5

import sskd


class Distillation(lightning.LightningModule):
    """A Distiller in Lightning's hooks. Its checkpoints hold student and method, and not the teacher."""

    def __init__(self, distiller: sskd.Distiller) -> None:
        super().__init__()
        self.distiller = distiller

    def on_train_epoch_start(self) -> None:
        self.distiller.begin_epoch(self.current_epoch, self.trainer.max_epochs)

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        loss, terms = self.distiller(*batch)  # images, labels, indices
        self.log_dict(terms | {"loss": loss.detach()}, prog_bar=True)
        return loss

    def on_train_batch_end(self, *_: object) -> None:
        self.distiller.after_step()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.distiller.parameters(), 0.05, momentum=0.9, weight_decay=5e-4)


lightning.seed_everything(0)
digits = load_digits()
images = torch.tensor(digits.images[:240], dtype=torch.float32)[:, None] / 8 - 1  # normalised: -1 to 1
images = torch.nn.functional.interpolate(images, scale_factor=4).expand(-1, 3, -1, -1)  # 32 x 32, RGB
labels = torch.tensor(digits.target[:240])
loader = DataLoader(TensorDataset(images, labels, torch.arange(240)), batch_size=48, shuffle=True, drop_last=True)
teacher, student = resnet18(num_classes=10), shufflenet_v2_x0_5(num_classes=10)  # load the teacher's weights here
method = sys.argv[1] if len(sys.argv) > 1 else "kd"
distiller = sskd.Distiller(
    student, teacher, method, num_classes=10, sample=images[:2], train_labels=labels,
    taps=("maxpool", "stage2", "stage3"), teacher_taps=("layer1", "layer2", "layer3"),  # for methods that compare maps
)  # fmt: skip
trainer = lightning.Trainer(max_epochs=2, logger=False, enable_checkpointing=False, log_every_n_steps=1)
trainer.fit(Distillation(distiller), loader)
print({name: round(float(value), 3) for name, value in trainer.callback_metrics.items()})
torch.save(distiller.student.state_dict(), "student.pt")
