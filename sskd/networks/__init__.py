"""Networks by name, one file per family. ``build_network`` builds them."""

from sskd.networks.base import NETWORKS, Features, FeatureShapes, Network
from sskd.networks.build import build_network, feature_shapes

__all__ = ["NETWORKS", "FeatureShapes", "Features", "Network", "build_network", "feature_shapes"]
