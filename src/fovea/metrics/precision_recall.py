"""Precision, recall and F1 per class, and averaged F1, over the known labels; an undefined value (0 / 0) is nan.

TorchMetrics 1.9 returns 0 for an undefined value, and its multi-label macro average counts that 0: with three classes,
one of them unknown, perfect predictions would have a macro F1 of 0.667.
"""

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torchmetrics import Metric


class ClassCounts(Metric):
    """Counts true positives (tp), false positives (fp) and false negatives (fn) of each class.

    Single-label: the most probable class is predicted. Multi-label: each class with a probability above 0.5 is
    predicted, and unknown labels (-1) are not counted.
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
        """Return (K,) float32."""
        return self.tp / (self.tp + self.fp)


class Recall(ClassCounts):
    """(K,): tp / (tp + fn); nan for a class without a known positive."""

    def compute(self) -> Tensor:
        """Return (K,) float32."""
        return self.tp / (self.tp + self.fn)


class MacroRecall(Recall):
    """The mean of recall over the classes that are present in a known label; nan if there is none.

    Single-label: balanced accuracy, as scikit-learn's `balanced_accuracy_score`, which counts each class equally.

    Attributes:
        defined: (K,) bool: the classes that the last mean included.
    """

    undefined_for = "without a positive label"
    defined: Tensor | None = None

    def compute(self) -> Tensor:
        """Return a scalar."""
        values = super().compute()
        self.defined = ~values.isnan()
        return values.nanmean()


class F1(ClassCounts):
    """(K,): 2 tp / (2 tp + fp + fn); nan for a class that is neither predicted nor present in a known label."""

    def compute(self) -> Tensor:
        """Return (K,) float32."""
        return 2 * self.tp / (2 * self.tp + self.fp + self.fn)


class MacroF1(F1):
    """The mean of F1 over the classes where it is defined; nan if there is none.

    Single-label: the mean over the classes that occur among labels or predictions, as scikit-learn's
    `f1_score(average="macro")`. Multi-label: as the same function with `zero_division=nan`: a class that is absent from
    every image is left out if it is never predicted, and counts as 0 otherwise.

    Attributes:
        defined: (K,) bool: the classes that the last mean included.
    """

    undefined_for = "without a positive label or prediction among the known ones"
    defined: Tensor | None = None

    def compute(self) -> Tensor:
        """Return a scalar."""
        values = super().compute()
        self.defined = ~values.isnan()
        return values.nanmean()


class MicroF1(F1):
    """F1 of the counts summed over all classes; nan if no class is present or predicted in any image."""

    def compute(self) -> Tensor:
        """Return a scalar."""
        return 2 * self.tp.sum() / (2 * self.tp + self.fp + self.fn).sum()
