"""Top-k accuracy, for data with more than k classes."""

from torchmetrics.classification import MulticlassAccuracy


def top_k_accuracy(num_classes: int, k: int) -> MulticlassAccuracy | None:
    """Return the metric, or None if num_classes <= k, because it would always be 1."""
    if num_classes <= k:
        return None
    return MulticlassAccuracy(num_classes=num_classes, top_k=k, average="micro", validate_args=False)
