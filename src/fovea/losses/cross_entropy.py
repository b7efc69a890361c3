"""torch's cross-entropy, with class weights by name or balanced by the training labels."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from fovea.losses import class_weights as weights
from fovea.losses.class_weights import Counts, Weights


class CrossEntropy(nn.CrossEntropyLoss):
    """sum_i w[y_i] l_i / sum_i w[y_i] over the images i; without weights exactly torch.nn.CrossEntropyLoss.

    Mixed labels are divided by their number, as torch has it. The weights are in no checkpoint: they follow from the
    config, which keeps the counts of the training labels.
    """

    def __init__(
        self,
        class_weights: Weights = None,
        class_names: Sequence[str] | None = None,
        class_counts: Counts | None = None,
        **torchs: Any,
    ) -> None:
        """`torchs`: what torch.nn.CrossEntropyLoss takes; its `weight` is `class_weights` as a list.

        Raises:
            ValueError: the weights don't suit the classes, or both kinds are given.
        """
        if class_weights is not None and torchs.get("weight") is not None:
            raise ValueError("loss.weight and loss.class_weights are the same: give one of them")
        if torchs.get("weight") is not None:
            class_weights = torchs["weight"]
        weight = weights.class_weights(class_weights, class_names, class_counts)
        super().__init__(**torchs | {"weight": None})
        self.register_buffer("weight", weight, persistent=False)
