"""Distils a torchvision network into a smaller one in plain PyTorch: python docs/examples/plain_pytorch.py [METHOD]

Any Dataset will do that gives an image, its label and its position; this one has the digits of scikit-learn."""

import sys

import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset
from torchvision.models import resnet18, shufflenet_v2_x0_5

import sskd

EPOCHS = 2
torch.manual_seed(0)


class Digits(Dataset):
    def __init__(self) -> None:
        digits = load_digits()
        images = torch.tensor(digits.images, dtype=torch.float32)[:240, None] / 8 - 1  # normalised: -1 to 1
        self.images = torch.nn.functional.interpolate(images, scale_factor=4).expand(-1, 3, -1, -1)  # 32 x 32, RGB
        self.labels = torch.tensor(digits.target[:240])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        return self.images[index], self.labels[index], index


dataset = Digits()
loader = DataLoader(dataset, batch_size=48, shuffle=True, drop_last=True)
teacher, student = resnet18(num_classes=10), shufflenet_v2_x0_5(num_classes=10)  # load the teacher's weights here
method = sys.argv[1] if len(sys.argv) > 1 else "crd"
distiller = sskd.Distiller(
    student, teacher, method, num_classes=10, sample=dataset.images[:2], train_labels=dataset.labels,
    taps=("maxpool", "stage2", "stage3"), teacher_taps=("layer1", "layer2", "layer3"),  # for methods that compare maps
    head=sskd.train_head(teacher, loader, epochs=1) if method == "sskd" else None,
)  # fmt: skip
for stage in distiller.initial_stages():  # nothing, for most methods
    optimizer = torch.optim.SGD(stage.parameters(), stage.learning_rate or 0.05, momentum=0.9)
    for _ in range(stage.epochs):
        for images, labels, indices in loader:
            loss, terms = stage(images, labels, indices)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
optimizer = torch.optim.SGD(distiller.parameters(), 0.05, momentum=0.9, weight_decay=5e-4)
for epoch in range(EPOCHS):
    distiller.begin_epoch(epoch, EPOCHS)
    for images, labels, indices in loader:
        loss, terms = distiller(images, labels, indices)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        distiller.after_step()
    print(f"epoch {epoch + 1}: loss {loss:.3f},", ", ".join(f"{name} {value:.3f}" for name, value in terms.items()))
torch.save(distiller.student.state_dict(), "student.pt")
