"""Compares the number of images of each class between splits."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import chi2_contingency

from fovea.data.check.findings import Finding

MOST_CHANCE, LEAST_VARIATION = 0.001, 0.1  # a difference between splits is reported if it is neither chance nor small


def class_findings(counts: Mapping[str, np.ndarray], class_names: Sequence[str], least: int) -> list[Finding]:
    """Return the classes with no or few images, splits of a single class, and splits with other class shares.

    Args:
        counts: split -> (K,) the number of images in which each class is present.
        class_names: K names.
        least: a class with fewer images in the first split has few.
    """
    found: list[Finding] = []
    for split, present in counts.items():
        found += [
            Finding("class without images", split, detail=class_names[k]) for k in np.flatnonzero(present == 0).tolist()
        ]
    for split, present in list(counts.items())[:1]:
        few = np.flatnonzero((present > 0) & (present < least)).tolist()
        found += [Finding("class with few images", split, detail=f"{class_names[k]}: {present[k]} images") for k in few]
    for split, present in counts.items():
        if (present > 0).sum() == 1 and len(present) > 1:
            found.append(Finding("one class", split, detail=f"all images are of {class_names[int(present.argmax())]}"))
    return found + balance_findings(counts, class_names)


def balance_findings(counts: Mapping[str, np.ndarray], class_names: Sequence[str]) -> list[Finding]:
    """Return a finding for each split whose class shares differ from those of the first split."""
    found = []
    (first, reference), *others = counts.items()
    for split, present in others:
        variation, chance = total_variation(reference, present), probability_of_chance(reference, present)
        if variation >= LEAST_VARIATION and chance < MOST_CHANCE:
            detail = f"total variation {variation:.3f} from {first}, chi-square p {chance:.1g}"
            detail += f": {_largest_differences(reference, present, class_names)}"
            found.append(Finding("class balance", split, other_split=first, detail=detail))
    return found


def _largest_differences(one: np.ndarray, other: np.ndarray, class_names: Sequence[str]) -> str:
    """Return `cat 50.0% instead of 33.3%, dog ...` of the three classes whose shares differ most."""
    p, q = one / one.sum(), other / other.sum()
    most = np.argsort(-np.abs(p - q), kind="stable")[:3]
    return ", ".join(f"{class_names[k]} {q[k]:.1%} instead of {p[k]:.1%}" for k in most)


def total_variation(one: np.ndarray, other: np.ndarray) -> float:
    """Return half the sum over classes of |p - q|, in [0, 1]; p and q are the classes' shares, from counts (K,)."""
    if not one.sum() or not other.sum():
        return 0.0
    return float(np.abs(one / one.sum() - other / other.sum()).sum() / 2)


def probability_of_chance(one: np.ndarray, other: np.ndarray) -> float:
    """Return the p-value of a chi-square test that counts (K,) of both splits come from the same distribution."""
    table = np.stack([one, other])
    table = table[:, table.sum(0) > 0]
    if table.shape[1] < 2 or not table.sum(1).all():
        return 1.0
    return float(chi2_contingency(table).pvalue)
