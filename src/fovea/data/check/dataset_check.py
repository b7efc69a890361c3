"""Checks a dataset whose images have been read: damage, duplicates, odd sizes and classes."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fovea.data.check.class_balance import class_findings, probability_of_chance, total_variation
from fovea.data.check.duplicate_findings import Duplicates, Groups
from fovea.data.check.findings import Finding, Kind
from fovea.data.check.image_facts import ImageFacts
from fovea.data.check.odd_sizes import outliers
from fovea.data.index import Task, class_counts

DAMAGE: tuple[Kind, ...] = ("unreadable", "damaged")
SIZES: tuple[Kind, ...] = ("odd size", "odd aspect ratio", "small")
MOST_ROWS = 1000  # of a kind that concerns single images
EXAMPLES = 3  # of each kind in the summary


class Options(NamedTuple):
    """What counts as a finding.

    Attributes:
        image_size: images whose short side is smaller, in pixels, are small.
        near_distance, near_correlation: see `near_clusters`; a distance of None finds no near-duplicates.
        least_images: classes with fewer training images have few.
    """

    image_size: int
    near_distance: int | None
    near_correlation: float
    least_images: int


@dataclass(frozen=True, eq=False)
class Check:
    """The result.

    Attributes:
        findings: the most important ones first.
        groups: the clusters of duplicates.
        counts: split -> (K,) images in which each class is present.
        images: the number of images of each kind that concerns single images.
    """

    findings: list[Finding]
    groups: Groups
    counts: dict[str, np.ndarray]
    images: Counter[Kind]

    @property
    def leaks(self) -> int:
        """The number of clusters of exact and near-duplicates with images of several splits."""
        return sum(cluster.across for cluster in [*self.groups.exact, *self.groups.near])

    @property
    def unreadable(self) -> int:
        return self.images["unreadable"]


def check_dataset(facts: ImageFacts, task: Task, class_names: Sequence[str], options: Options) -> Check:
    """Compare the facts of all images."""
    duplicates = Duplicates(facts, task, class_names)
    groups = duplicates.groups(options.near_distance, options.near_correlation)
    counts = {
        split: np.array(class_counts(index.targets, len(class_names))["present"])
        for split, index in facts.splits.items()
    }
    unusual = {kind: np.flatnonzero(found) for kind, found in _unusual(facts, options.image_size)}
    findings = [
        *_rows(facts, "unreadable", [n for n in facts.errors if not facts.readable[n]]),
        *_rows(facts, "damaged", [n for n in facts.errors if facts.readable[n]]),
        *duplicates.findings(groups),
        *(row for kind, numbers in unusual.items() for row in _rows(facts, kind, numbers.tolist())),
        *class_findings(counts, class_names, options.least_images),
    ]
    images = Counter[Kind]({kind: len(numbers) for kind, numbers in unusual.items()})
    images["unreadable"] = sum(not facts.readable[n] for n in facts.errors)
    images["damaged"] = len(facts.errors) - images["unreadable"]
    return Check(findings, groups, counts, images)


def _unusual(facts: ImageFacts, image_size: int) -> Iterator[tuple[Kind, np.ndarray]]:
    """Yield kinds with the images that they concern, (N,) bool."""
    readable = facts.readable
    height, width = facts.sizes[readable].T.astype(float)
    short = facts.sizes[readable].min(1) < image_size
    for kind, unusual in zip(SIZES, (outliers(np.sqrt(height * width)), outliers(width / height), short), strict=True):
        found = np.zeros(len(facts), bool)
        found[readable] = unusual
        yield kind, found


def _rows(facts: ImageFacts, kind: Kind, numbers: Sequence[int]) -> Iterator[Finding]:
    for number in numbers[:MOST_ROWS]:
        split, path = facts.place(number)
        height, width = facts.sizes[number]
        reason = facts.errors[number].removeprefix(f"{path}: ") if kind in DAMAGE else ""
        yield Finding(kind, split, path, detail=reason or f"{width} x {height} pixels")
    if len(numbers) > MOST_ROWS:
        yield Finding(kind, "", detail=f"and {len(numbers) - MOST_ROWS:,} more images")


def summary(facts: ImageFacts, check: Check, root: str | None) -> str:
    """Return the summary as text: a table of the kinds, the shares of classes, and the first findings of each kind."""
    counts = ", ".join(f"{len(index):,} {split}" for split, index in facts.splits.items())
    lines = [f"{len(facts):,} images: {counts}", "", *_table(check), "", *_balance(check)]
    for kind in dict.fromkeys(finding.kind for finding in check.findings):
        rows = [finding for finding in check.findings if finding.kind == kind]
        lines += ["", f"{kind}:", *(f"  {_line(row, root)}" for row in rows[:EXAMPLES])]
        lines += [f"  ... {len(rows) - EXAMPLES:,} more rows in findings.csv"] if len(rows) > EXAMPLES else []
    return "\n".join(lines)


def _table(check: Check) -> Iterator[str]:
    yield f"{'':22}{'images':>10}{'clusters':>10}{'across splits':>15}{'labels differ':>15}"
    for kind in DAMAGE:
        yield f"{kind:22}{check.images[kind]:10,}"
    for name, clusters in zip(("exact duplicates", "near duplicates", "plain images"), check.groups, strict=True):
        images = sum(len(cluster.members) for cluster in clusters)
        across, mixed = (sum(getattr(cluster, what) for cluster in clusters) for what in ("across", "mixed"))
        yield f"{name:22}{images:10,}{len(clusters):10,}{across:15,}{mixed:15,}"
    for kind in SIZES:
        yield f"{kind:22}{check.images[kind]:10,}"


def _balance(check: Check) -> Iterator[str]:
    """Say how much the class shares of each split differ from those of the first."""
    (first, reference), *others = check.counts.items()
    present = reference[reference > 0]
    if len(present):
        yield f"classes: {len(reference):,}, with {present.min():,} to {present.max():,} images in {first}"
    for split, counts in others:
        variation, chance = total_variation(reference, counts), probability_of_chance(reference, counts)
        yield f"class shares of {split} and {first}: total variation {variation:.3f}, chi-square p {chance:.2g}"


def _line(row: Finding, root: str | None) -> str:
    prefix = os.path.join(os.path.expanduser(root), "") if root else ""
    path, other = (name.removeprefix(prefix) for name in (row.path, row.other_path))
    places = [f"{split}: {name}" if name else split for split, name in ((row.split, path), (row.other_split, other))]
    return "  ".join(part for part in (" = ".join(filter(None, places)), row.detail) if part)
