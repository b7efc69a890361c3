"""Features of images: the input of a network's classifier, which is its last layer."""

from torch import Tensor, nn

LAYERS = (nn.Linear, nn.Conv2d)


def features_and_logits(network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the input of the classifier (B, D) and the logits (B, K).

    The classifier is the linear or convolutional layer that is called last, if it has K outputs; of several heads the
    one that is called last. If it is applied at several positions, its input is averaged over them. Without such a
    layer, the features are the logits.

    Args:
        network: (B, 3, H, W) -> (B, K); in evaluation mode, or else its dropout acts on the features.
        images: the network's input.
    """
    last: list[tuple[nn.Module, Tensor]] = []

    def keep(layer: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
        last[:] = [(layer, inputs[0] if inputs else named["input"])]

    hooks = [
        layer.register_forward_pre_hook(keep, with_kwargs=True)
        for layer in network.modules()
        if isinstance(layer, LAYERS)
    ]
    try:
        logits: Tensor = network(images)  # (B, K)
    finally:
        for hook in hooks:
            hook.remove()
    if not last or _outputs(last[0][0]) != logits.shape[1]:
        return logits, logits
    return _averaged(*last[0]), logits


def _outputs(layer: nn.Module) -> int:
    assert isinstance(layer.weight, Tensor)
    return len(layer.weight)


def _averaged(layer: nn.Module, inputs: Tensor) -> Tensor:
    """Average over the positions: (B, ..., D) of a linear layer or (B, D, H, W) of a convolution -> (B, D)."""
    if isinstance(layer, nn.Linear):
        return inputs.reshape(len(inputs), -1, inputs.shape[-1]).mean(1)
    return inputs.flatten(2).mean(2)
