"""Distils timm's networks on a folder of one's own by seven methods: python docs/examples/image_folder.py FOLDER

FOLDER has a folder of images for each class, as torchvision's ImageFolder reads it."""

import sys

import timm
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

import sskd
from sskd.methods import METHODS, LossTerms, Method, MethodInfo

EPOCHS, SIZE = 2, 64
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LAYERS = ("layer1", "layer2", "layer3", "layer4")


class Images(ImageFolder):
    """Images, labels and positions, which CRD asks for."""

    def __getitem__(self, index: int) -> tuple:
        return (*super().__getitem__(index), index)


@METHODS.register("cosine")
class Cosine(Method):
    """A method of one's own: the student's logits point in the direction of the teacher's."""

    info = MethodInfo("Cosine", "an example", 2026, "the direction of the logits")
    required_features = frozenset({"logits"})
    term_weights = {"cosine": 1.0}

    def loss_terms(self, student, teacher, batch) -> LossTerms:
        return LossTerms({"cosine": (1 - F.cosine_similarity(student.logits, teacher.logits)).mean()})


def train(distiller: sskd.Distiller, learning_rate: float = 0.05) -> None:
    optimizer = torch.optim.SGD(distiller.parameters(), learning_rate, momentum=0.9, weight_decay=5e-4)
    for epoch in range(EPOCHS):
        distiller.begin_epoch(epoch, EPOCHS)
        for images, labels, indices in loader:
            loss, _ = distiller(images, labels, indices)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            distiller.after_step()


torch.manual_seed(0)
crop = [transforms.RandomResizedCrop(SIZE, (0.5, 1.0)), transforms.RandomHorizontalFlip()]
dataset = Images(sys.argv[1], transforms.Compose([*crop, transforms.ToTensor(), transforms.Normalize(MEAN, STD)]))
loader = DataLoader(dataset, batch_size=16, shuffle=True, drop_last=True)
common = {
    "num_classes": len(dataset.classes),
    "sample": torch.rand(2, 3, SIZE, SIZE),
    "train_labels": torch.tensor(dataset.targets),
}
teacher = timm.create_model("resnet18", num_classes=len(dataset.classes))  # pretrained=True for a better one
train(sskd.Distiller(teacher, None, "none", **common))
head = sskd.train_head(teacher, loader, epochs=1)
for method in ("kd", "at", "crd", "dkd", "reviewkd", "sskd", "cosine"):
    student = timm.create_model("resnet10t", num_classes=len(dataset.classes))
    maps = {"taps": LAYERS} if METHODS[method].required_features & {"feature_maps", "preactivations"} else {}
    distiller = sskd.Distiller(student, teacher, method, head=head if method == "sskd" else None, **maps, **common)
    train(distiller)
    student.eval()
    with torch.no_grad():
        right = sum((student(images).argmax(1) == labels).sum().item() for images, labels, _ in loader)
    print(f"{method}: {100 * right / (len(loader) * loader.batch_size):.1f} % of the training images")
    torch.save(distiller.student.state_dict(), f"{method}.pt")
