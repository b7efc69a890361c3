"""Cross-validated probabilities of images that a network was trained on, by discriminant analysis of its features.

The network has seen the labels of its training images, so its own probabilities repeat wrong ones. Linear discriminant
analysis has a closed form, and wrong labels move the classes' means and the common covariance little: with 5 % of the
labels wrong, it finds more of them than logistic regression, which fits them (scripts/benchmark_suspects.py). The
covariance is shrunk as by Ledoit and Wolf 2004, https://doi.org/10.1016/S0047-259X(03)00096-4.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

FOLDS = 5
CHUNK = 8192  # images
LEAST_SHRINKAGE = 1e-4  # features that depend on each other have no inverse covariance
CONSTANT = 1e-5  # a feature whose standard deviation is a smaller share of its mean is constant but for rounding


class Moments(NamedTuple):
    """Sums over some images; C = K groups of images, the classes, or C = 2K, the classes present and absent.

    Attributes:
        images: their number.
        total: (D,) the sum of their features.
        products: (D, D) the sum of their features' products.
        sums: (C, D) the sum of the features of each group.
        counts: (C,) the number of images of each group.
    """

    images: Tensor
    total: Tensor
    products: Tensor
    sums: Tensor
    counts: Tensor


def cross_validated(
    features: Tensor, labels: Tensor, task: Literal["multiclass", "multilabel"], num_classes: int, seed: int
) -> Tensor:
    """Return the probability of each class for each image, by a classifier that was not fitted to the image.

    Each of five folds is predicted from the others. Single-label: softmax of Gaussians with a common covariance;
    multi-label: the same between present and absent for each class, over the known labels. Two passes over the
    features, each fold being left out by subtraction, and one more to predict: about 2 N D (D + 2 K) multiplications.

    Args:
        features: (N, D) float, finite, on the CPU or a CUDA device, where the work is done too.
        labels: (N,) class indices, or (N, K) with 1 present, 0 absent, -1 unknown.
        task: "multiclass" or "multilabel".
        num_classes: K.
        seed: of the folds, which are stratified by class; for several labels by the rarest present class.

    Returns:
        (N, K) float32 on the CPU. nan where there is nothing to compare with: single-label in the row of an image whose
        class has no image in the other folds; multi-label if no image in the other folds has the class, or none lacks
        it.
    """
    scaled = Scaled(features)
    labels = labels.to(features.device)
    folds = _folds(labels, num_classes, seed)
    parts = [_moments(scaled, labels, rows, num_classes) for rows in folds]
    everything = Moments(*map(sum, zip(*parts, strict=True)))  # type: ignore[arg-type]
    shrinkage = _shrinkage(scaled, labels, everything)
    result = torch.full((len(features), num_classes), torch.nan)
    for rows, part in zip(folds, parts, strict=True):
        others = Moments(*(whole - own for whole, own in zip(everything, part, strict=True)))
        weight, bias = (_fit_one_label if task == "multiclass" else _fit_several)(others, shrinkage)
        for some in rows.split(CHUNK):
            logits = scaled[some] @ weight + bias  # (n, K)
            values = logits.softmax(1) if task == "multiclass" else logits.sigmoid()
            if task == "multiclass":
                values[others.counts[labels[some]] < 1] = torch.nan
            result[some.cpu()] = values.cpu()
    return result


class Scaled:
    """Rows of the features, each feature with mean 0 and standard deviation 1; a constant feature is 0."""

    def __init__(self, features: Tensor) -> None:
        variance, self.mean = torch.var_mean(features.float(), dim=0, correction=0)
        deviation = variance.sqrt()
        self.features = features
        self.factor = deviation.reciprocal().where(deviation > CONSTANT * self.mean.abs(), 0.0)

    def __getitem__(self, rows: Tensor) -> Tensor:
        return (self.features[rows].float() - self.mean) * self.factor


def _folds(labels: Tensor, num_classes: int, seed: int) -> list[Tensor]:
    """Return the images' numbers in each fold; images of a class are in different folds as far as possible."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).to(labels.device)
    strata = labels if labels.ndim == 1 else _rarest(labels)
    order = order[strata[order].argsort(stable=True)]
    return [order[k::FOLDS] for k in range(FOLDS)]


def _rarest(labels: Tensor) -> Tensor:
    """Return the present class of each image that the fewest images have, (N,); K for an image without one."""
    present = labels == 1
    counts = torch.cat([present.sum(0), labels.new_tensor([len(labels) + 1], dtype=torch.long)])  # (K + 1,)
    none = ~present.any(1, keepdim=True)
    return counts.where(torch.cat([present, none], 1), len(labels) + 2).argmin(1)


def _moments(scaled: Scaled, labels: Tensor, rows: Tensor, num_classes: int) -> Moments:
    """Return the sums over the images `rows`, in float64."""
    width, groups = len(scaled.mean), num_classes if labels.ndim == 1 else 2 * num_classes
    sizes = ((), (width,), (width, width), (groups, width), (groups,))
    moments = Moments(*(torch.zeros(size, dtype=torch.float64, device=labels.device) for size in sizes))
    for some in rows.split(CHUNK):
        values = scaled[some]  # (n, D)
        moments.images.add_(len(some))
        moments.total.add_(values.sum(0))
        moments.products.add_(values.T @ values)
        _add_groups(moments, values, labels[some])
    return moments


def _add_groups(moments: Moments, values: Tensor, labels: Tensor) -> None:
    """Add the features (n, D) and the numbers of the images in each group."""
    if labels.ndim == 1:
        moments.sums.index_add_(0, labels.long(), values.double())
        moments.counts.add_(torch.bincount(labels.long(), minlength=len(moments.counts)))
    else:
        member = torch.cat([labels == 1, labels == 0], 1).float()  # (n, 2 K)
        moments.sums.add_(member.T @ values)
        moments.counts.add_(member.sum(0))


def _shrinkage(scaled: Scaled, labels: Tensor, moments: Moments) -> float:
    """Return Ledoit and Wolf's share of the mean variance in the shrunk covariance of the images, in [0, 1]."""
    covariance, centers = _covariance(moments, labels.ndim == 1)
    fourth = torch.zeros((), dtype=torch.float64, device=labels.device)
    for some in torch.arange(len(labels), device=labels.device).split(CHUNK):
        center = centers[labels[some].long()] if labels.ndim == 1 else centers
        fourth += (scaled[some] - center.float()).square().sum(1).square().sum()
    scale = covariance.diagonal().mean()
    distance = (covariance - scale * torch.eye(len(covariance), device=labels.device)).square().sum()
    error = (fourth / moments.images - covariance.square().sum()) / moments.images
    return float((error / distance.clamp(min=1e-30)).clamp(LEAST_SHRINKAGE, 1))


def _covariance(moments: Moments, within: bool) -> tuple[Tensor, Tensor]:
    """Return the covariance (D, D) within the groups and their means (C, D), or of all images and their mean (D,)."""
    if not within:
        mean = moments.total / moments.images
        return moments.products / moments.images - mean.outer(mean), mean
    means = moments.sums / moments.counts.clamp(min=1)[:, None]
    return (moments.products - means.T @ moments.sums) / moments.images, means


def _inverse_times(covariance: Tensor, shrinkage: float, columns: Tensor) -> Tensor:
    """Return the inverse of the shrunk covariance (D, D), times `columns` (D, n)."""
    scale = covariance.diagonal().mean()
    shrunk = (1 - shrinkage) * covariance
    shrunk.diagonal().add_(shrinkage * scale + 1e-9)  # all features may be constant
    return torch.linalg.solve(shrunk, columns)


def _fit_one_label(moments: Moments, shrinkage: float) -> tuple[Tensor, Tensor]:
    """Return weights (D, K) and biases (K,) of the logits: x' S^-1 m - m' S^-1 m / 2 + log(prior)."""
    covariance, means = _covariance(moments, within=True)
    weight = _inverse_times(covariance, shrinkage, means.T)
    bias = (moments.counts / moments.images).log() - (means.T * weight).sum(0) / 2
    return weight.float(), bias.float()


def _fit_several(moments: Moments, shrinkage: float) -> tuple[Tensor, Tensor]:
    """Return weights (D, K) and biases (K,) of the logits of present against absent.

    The covariance within the two groups of a class is the one of all images, S, minus p (1 - p) d d', with the share p
    of the images that have it and the difference d of the two means. By Sherman and Morrison's formula its inverse
    times d is S^-1 d / (1 - p (1 - p) d' S^-1 d), so one S is solved for all classes.
    """
    covariance, _ = _covariance(moments, within=False)
    means = moments.sums / moments.counts[:, None]  # nan: no such image
    present, absent = means.chunk(2)  # (K, D) each
    count, other = moments.counts.chunk(2)
    share = count / (count + other)
    difference = (present - absent).T.nan_to_num()  # (D, K)
    weight = _inverse_times(covariance, shrinkage, difference)
    weight = weight / (1 - share * (1 - share) * (difference * weight).sum(0)).clamp(min=1e-3)
    bias = (count / other).log() - ((present + absent).T * weight).sum(0) / 2
    return weight.float(), bias.float()
