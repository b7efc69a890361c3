"""The training images of each class, for losses that depend on them."""

import logging
from collections.abc import Sequence

from fovea.losses.class_weights import Counts

log = logging.getLogger(__name__)


def present_counts(counts: Counts | None, loss: str, names: Sequence[str] | None) -> Sequence[int]:
    """Return the training images of each class, (K,); warn about classes without any.

    Args:
        counts: the config's class_counts.
        loss: the name of the loss, for the error.
        names: of the classes; None if they aren't known.

    Raises:
        ValueError: there are no counts.
    """
    if counts is None:
        raise ValueError(f"loss: {loss} needs the counts of the training labels: loss.class_counts is null")
    empty = [names[k] if names else str(k) for k, n in enumerate(counts["present"]) if not n]
    if empty:
        some = ", ".join(empty[:10]) + (", ..." if len(empty) > 10 else "")
        log.warning("loss: %d classes without a training image count as having one: %s", len(empty), some)
    return counts["present"]
