"""Top-k accuracy, where there are enough classes for it to mean something."""

from torchmetrics.classification import MulticlassAccuracy


def top_k_accuracy(num_classes: int, k: int) -> MulticlassAccuracy | None:
    """The share of images whose class is among the k most probable; None where all are (num_classes <= k)."""
    if num_classes <= k:
        return None
    return MulticlassAccuracy(num_classes=num_classes, top_k=k, average="micro", validate_args=False)
