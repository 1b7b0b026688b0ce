"""Distils with accelerate, on any number of devices: accelerate launch docs/examples/accelerate_loop.py [METHOD]"""

import sys

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import resnet18, shufflenet_v2_x0_5

import sskd

EPOCHS = 2
accelerator = Accelerator()  # before the distiller, which asks how many processes there are
set_seed(0)
digits = load_digits()
images = torch.tensor(digits.images[:240], dtype=torch.float32)[:, None] / 8 - 1  # normalised: -1 to 1
images = torch.nn.functional.interpolate(images, scale_factor=4).expand(-1, 3, -1, -1)  # 32 x 32, RGB
labels = torch.tensor(digits.target[:240])
loader = DataLoader(TensorDataset(images, labels, torch.arange(240)), batch_size=24, shuffle=True, drop_last=True)
teacher, student = resnet18(num_classes=10), shufflenet_v2_x0_5(num_classes=10)  # load the teacher's weights here
method = sys.argv[1] if len(sys.argv) > 1 else "kd"
distiller = sskd.Distiller(
    student, teacher, method, num_classes=10, sample=images[:2], train_labels=labels,
    taps=("maxpool", "stage2", "stage3"), teacher_taps=("layer1", "layer2", "layer3"),  # for methods that compare maps
    gather=accelerator.num_processes > 1,  # losses are of the images of all processes
)  # fmt: skip
optimizer = torch.optim.SGD(distiller.parameters(), 0.05, momentum=0.9, weight_decay=5e-4)
step, optimizer, loader = accelerator.prepare(distiller, optimizer, loader)
for epoch in range(EPOCHS):
    distiller.begin_epoch(epoch, EPOCHS)
    for images, labels, indices in loader:
        loss, terms = step(images, labels, indices)
        optimizer.zero_grad()
        accelerator.backward(loss)
        optimizer.step()
        distiller.after_step()
    said = ", ".join(f"{name} {value:.3f}" for name, value in terms.items())
    accelerator.print(f"epoch {epoch + 1}: loss {loss:.3f}, {said}")
accelerator.save(distiller.student.state_dict(), "student.pt")
