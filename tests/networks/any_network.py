"""A vision transformer without a base class of the suite, as a user's own: two layers, for images of 16 x 16."""

from torchvision.models import VisionTransformer

from sskd.networks import NETWORKS

NAME = "tiny_vit"


@NETWORKS.register(NAME)
def tiny_vit(num_classes: int) -> VisionTransformer:
    net = VisionTransformer(16, 4, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=num_classes)
    net.heads.head.reset_parameters()  # torchvision's are zero: every image would have the same logits
    return net
