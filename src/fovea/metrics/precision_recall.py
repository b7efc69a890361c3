"""Precision, recall and F1 per class, and F1 averaged, over the labels that are known; nan where undefined.

An undefined value is 0 / 0. TorchMetrics 1.9 gives 0 for it, and a macro average of several labels counts that 0: of
three classes, one of them unknown, perfect predictions would have a macro F1 of 0.667.
"""

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torchmetrics import Metric


class ClassCounts(Metric):
    """Counts, for each class, the images where it was predicted rightly, predicted wrongly, and missed.

    Single-label: the most probable class is predicted. Multi-label: each class above 0.5, and unknown labels (-1) are
    not counted.
    """

    full_state_update = False
    higher_is_better = True
    tp: Tensor
    fp: Tensor
    fn: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        for name in ("tp", "fp", "fn"):
            self.add_state(name, torch.zeros(num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """preds: (B, K) probabilities; target: (B,) class indices, or (B, K) with 1 present, 0 absent, -1 unknown."""
        if target.ndim == 1:
            predicted = one_hot(preds.argmax(1), self.num_classes) == 1  # (B, K)
            target = one_hot(target, self.num_classes)  # (B,) -> (B, K)
        else:
            predicted = preds > 0.5
        self.tp += (predicted & (target == 1)).sum(0)
        self.fp += (predicted & (target == 0)).sum(0)
        self.fn += (~predicted & (target == 1)).sum(0)


class Precision(ClassCounts):
    """(K,): tp / (tp + fp); nan for a class that is never predicted."""

    def compute(self) -> Tensor:
        """(K,) float32."""
        return self.tp / (self.tp + self.fp)


class Recall(ClassCounts):
    """(K,): tp / (tp + fn); nan for a class that no image is known to have."""

    def compute(self) -> Tensor:
        """(K,) float32."""
        return self.tp / (self.tp + self.fn)


class F1(ClassCounts):
    """(K,): 2 tp / (2 tp + fp + fn); nan for a class that is neither among the known labels nor predicted."""

    def compute(self) -> Tensor:
        """(K,) float32."""
        return 2 * self.tp / (2 * self.tp + self.fp + self.fn)


class MacroF1(F1):
    """The mean of F1 over the classes where it is defined; nan if there are none.

    Single-label: the classes that occur among labels or predictions, as scikit-learn's `f1_score(average="macro")`.
    Multi-label: as with its `zero_division=nan`. A class that is known to be absent everywhere is left out while it is
    never predicted, and counts as 0 as soon as it is.

    Attributes:
        defined: (K,) bool: the classes that the last mean was over.
    """

    undefined_for = "without a positive label or prediction among what is known of them"
    defined: Tensor | None = None

    def compute(self) -> Tensor:
        """A scalar."""
        values = super().compute()
        self.defined = ~values.isnan()
        return values.nanmean()


class MicroF1(F1):
    """F1 of all classes' counts together; nan if no class is present or predicted in any image."""

    def compute(self) -> Tensor:
        """A scalar."""
        return 2 * self.tp.sum() / (2 * self.tp + self.fp + self.fn).sum()
