"""A classifier of cosines: the last layer's logits are limited, and do not depend on the length of features or weights.

Source: Wang et al. 2018, "CosFace", https://arxiv.org/abs/1801.09414, without its margin; LDAM's NormedLinear
(https://github.com/kaidic/LDAM-DRW, models/resnet_cifar.py) is the same without the scale.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from fovea.models.weights import head


class CosineLinear(nn.Linear):
    """scale cos(x, w_k) for features x, (..., D), and the rows w of the weight, (K, D) -> (..., K); no bias."""

    def __init__(self, in_features: int, out_features: int, scale: float) -> None:
        super().__init__(in_features, out_features, bias=False)
        self.scale = scale

    def forward(self, input: Tensor) -> Tensor:
        return self.scale * F.linear(F.normalize(input, dim=-1), F.normalize(self.weight, dim=-1))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, scale={self.scale}"


def use_cosine_classifier(network: nn.Module, scale: float) -> None:
    """Replace the network's classifier, a linear layer, by a CosineLinear with the same weight.

    Args:
        network: its classifier is found as `head.classifier_names` does.
        scale: of the cosines, > 0.

    Raises:
        ValueError: the classifier is not one linear layer, or the network is nothing but its classifier.
    """
    layers = {name.rpartition(".")[0] for name in head.classifier_names(network)}
    found = [(name, network.get_submodule(name)) for name in layers if name]
    if len(layers) != 1 or not found or type(found[0][1]) is not nn.Linear:
        kinds = ", ".join(f"{name} ({type(layer).__name__})" for name, layer in found) or "the whole network"
        raise ValueError(
            f"cosine_scale={scale} replaces a classifier that is one linear layer, but this network's is {kinds}"
        )
    ((name, linear),) = found
    assert isinstance(linear, nn.Linear)
    cosine = CosineLinear(linear.in_features, linear.out_features, scale)
    cosine.weight = linear.weight
    network.set_submodule(name, cosine)
