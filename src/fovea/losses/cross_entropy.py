"""torch's cross-entropy, with class weights by name or balanced by the training labels."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from fovea.losses import class_weights as weights
from fovea.losses.class_weights import Counts, Weights


class CrossEntropy(nn.CrossEntropyLoss):
    """sum_i w[y_i] l_i / sum_i w[y_i] over the images i; without weights exactly torch.nn.CrossEntropyLoss.

    For mixed labels the sum is divided by the number of images, as in torch. Images of a class with the weight 0 count
    nowhere; torch counts the share of label smoothing that belongs to the other classes. The weights are not saved in
    checkpoints, as they follow from the config, which has the counts of the training labels.
    """

    def __init__(
        self,
        class_weights: Weights = None,
        class_names: Sequence[str] | None = None,
        class_counts: Counts | None = None,
        **options: Any,
    ) -> None:
        """`options` are those of torch.nn.CrossEntropyLoss; its `weight` means the same as `class_weights`.

        Raises:
            ValueError: the weights don't fit the classes, or both `weight` and `class_weights` are given.
        """
        if class_weights is not None and options.get("weight") is not None:
            raise ValueError("loss.weight and loss.class_weights are the same: give one of them")
        if options.get("weight") is not None:
            class_weights = options["weight"]
        weight = weights.class_weights(class_weights, class_names, class_counts)
        super().__init__(**options | {"weight": None})
        self.register_buffer("weight", weight, persistent=False)
