"""Binary cross-entropy of each class that ignores unknown labels, for several labels an image or for one.

Source for single-label data: Wightman et al. 2021, "ResNet strikes back", https://arxiv.org/abs/2110.00476,
as timm's timm/loss/binary_cross_entropy.py (https://github.com/huggingface/pytorch-image-models).
Deviations: labels can be unknown; no label smoothing by default; mixed labels of one class an image are smoothed too.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from fovea.losses import class_weights as weights
from fovea.losses.class_weights import Counts, Weights
from fovea.losses.known_labels import known_mean, label_rows


def binary_cross_entropy(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    target_threshold: float | None = None,
    sum_classes: bool = False,
    one_label: bool = False,
) -> Tensor:
    """Mean over the known entries of -w_k (v_k t log p + (1 - t) log(1 - p)), in nats; p = sigmoid(logit), float32.

    Unknown entries count neither in the mean nor in the gradient; both are 0 if nothing is known. With several devices
    or accumulated batches, each batch has its own mean. As in torch, the sum is divided by the number of known entries,
    not by their weights.

    Args:
        logits: (B, K) of any float type.
        target: (B, K) in [0, 1], -1 where unknown; or (B,) int64 class indices, used as one-hot rows.
        weight: w, (K,) >= 0; None means 1.
        pos_weight: v, (K,) >= 0; None means 1.
        label_smoothing: s in [0, 1]: the labels become (1 - s) t + s / K for one label an image, (1 - s) t + s / 2 for
            several.
        target_threshold: smoothed labels above it become 1 and the others 0; None leaves them as they are.
        sum_classes: sum over the classes instead of their mean; see `known_mean`.
        one_label: a (B, K) target mixes single labels, so its rows sum to 1; always true of class indices.
    """
    logits = logits.float()  # half precision cannot hold the logarithm of a probability near 0
    one_label = one_label or target.ndim == 1
    target = label_rows(target, logits.shape[1])  # (B, K)
    known, labels = target != -1, target.to(logits.dtype)
    if label_smoothing:
        labels = (1 - label_smoothing) * labels + label_smoothing / (logits.shape[1] if one_label else 2)
    if target_threshold is not None:
        labels = (labels > target_threshold).to(logits.dtype)
    losses = F.binary_cross_entropy_with_logits(logits, labels, weight, reduction="none", pos_weight=pos_weight)
    return known_mean(losses, known, sum_classes)


class BinaryCrossEntropy(nn.Module):
    """`binary_cross_entropy` as a module. The weights are not saved in checkpoints, as the config gives them."""

    weight: Tensor | None
    pos_weight: Tensor | None

    def __init__(
        self,
        pos_weight: Weights = None,
        class_weights: Weights = None,
        label_smoothing: float = 0.0,
        target_threshold: float | None = None,
        sum_classes: bool = False,
        task: str | None = None,
        class_names: Sequence[str] | None = None,
        class_counts: Counts | None = None,
    ) -> None:
        """`task` is multiclass for one label an image; otherwise see `binary_cross_entropy`.

        Raises:
            ValueError: the weights don't fit the classes (see `class_weights`), a share is not between 0 and 1, or the
                threshold is not between the labels of an absent and a present class.
        """
        super().__init__()
        for name, share in (("label_smoothing", label_smoothing), ("target_threshold", target_threshold)):
            if share is not None and not 0 <= share <= 1:
                raise ValueError(f"loss.{name}={share}: give a number from 0 to 1")
        if target_threshold is not None:
            _check_threshold(target_threshold, label_smoothing, len(class_names or ()) if task == "multiclass" else 2)
        weight = weights.class_weights(class_weights, class_names, class_counts)
        positive = weights.positive_weights(pos_weight, class_names, class_counts)
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("pos_weight", positive, persistent=False)
        self.label_smoothing, self.target_threshold = label_smoothing, target_threshold
        self.sum_classes, self.one_label = sum_classes, task == "multiclass"

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return a scalar; see `binary_cross_entropy`."""
        return binary_cross_entropy(
            *(logits, target, self.weight, self.pos_weight),
            *(self.label_smoothing, self.target_threshold, self.sum_classes, self.one_label),
        )


def _check_threshold(threshold: float, smoothing: float, classes: int) -> None:
    """Raise ValueError if present and absent classes have labels on the same side; `classes` is 0 if not known."""
    low = smoothing / classes if classes else 0.0
    high = 1 - smoothing + low if classes else 1.0
    if not low <= threshold < high:
        raise ValueError(
            f"loss.target_threshold={threshold}: give at least {low:g}, the label of an absent class, and less than "
            f"{high:g}, that of a present one"
        )
