"""What the losses on a softmax share: the mean of each class's loss, weighted by the class's share of the label."""

from torch import Tensor
from torch.nn import functional as F


def share_mean(
    losses: Tensor, target: Tensor, weight: Tensor | None = None, label_smoothing: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """sum_k t_k w_k l_k of an image, reduced over the images as torch.nn.CrossEntropyLoss does.

    With l_k = -log p_k this is torch's cross-entropy.

    Args:
        losses: l, (B, K).
        target: (B,) int64 class indices, whose shares t are one-hot; or the shares, (B, K) >= 0.
        weight: w, (K,) >= 0; None means 1.
        label_smoothing: s in [0, 1]: the shares become (1 - s) t + s / K.
        reduction: "mean" divides the sum over the images by the sum of the labels' weights, or by B for shares (B, K);
            "sum" is the sum over the images, and "none" returns (B,).
    """
    indices = target.ndim == 1
    shares = F.one_hot(target, losses.shape[1]).to(losses.dtype) if indices else target.to(losses.dtype)  # (B, K)
    if label_smoothing:
        shares = (1 - label_smoothing) * shares + label_smoothing / losses.shape[1]
    each = (shares * (losses if weight is None else weight * losses)).sum(1)  # (B,)
    if reduction == "none":
        return each
    counted = weight[target].sum() if indices and weight is not None else len(target)
    return each.sum() / counted if reduction == "mean" else each.sum()
