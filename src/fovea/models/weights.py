"""Starting a network from a file of weights: matched by name, counted, and refused where it hardly fits."""

import logging
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, nn

from fovea.models import head
from fovea.models.library_files import adapted
from fovea.models.weights_file import Weights, read_weights

log = logging.getLogger(__name__)

PREFIXES = ("module.", "_orig_mod.", "net.", "network.", "model.")
MIN_SHARE = 0.5
MOSTLY = 0.9  # of a file's weights; where fewer are used, it was made for a larger network


@dataclass(frozen=True)
class LoadReport:
    """Names of the network's tensors that were loaded or left as they were, and of the file's that were not used.

    `resampled` are those loaded in another shape than the file's; `doubts` what the user should look at.
    """

    source: str
    loaded: list[str]
    fresh: list[str]
    unused: list[str]
    resampled: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    def table(self) -> str:
        """One line each with a count and the first names; without BatchNorm's step counters."""
        rows = [("loaded", self.loaded), ("left fresh", self.fresh), ("not used", self.unused)]
        rows += [("resampled", self.resampled)] * bool(self.resampled)
        lines = [f"  {label:<10} {len(names):>5}  {_shortened(names)}".rstrip() for label, names in rows]
        return "\n".join([f"weights from {self.source}", *lines])

    def tell(self) -> None:
        """Log the table, and each doubt as a warning."""
        log.info(self.table())
        for doubt in self.doubts:
            log.warning("weights %s: %s", self.source, doubt)


def load_weights(
    network: nn.Module, path: str | Path, class_names: Sequence[str] | None = None, min_share: float = MIN_SHARE
) -> LoadReport:
    """Copies a file's weights into the network and logs what fitted; see `read_weights` and `fill`."""
    report = fill(network, read_weights(path), class_names, min_share)
    report.tell()
    return report


def fill(
    network: nn.Module, weights: Weights, class_names: Sequence[str] | None = None, min_share: float = MIN_SHARE
) -> LoadReport:
    """Copies every tensor whose name, less its prefixes, is the network's.

    A classifier made for another number of classes stays as it is. One for as many classes is taken over row by row
    where the file names its classes: rows of classes that the file doesn't know stay as they are.

    Args:
        network: for K classes.
        weights: see `read_weights`.
        class_names: what the K classes are; None where nobody knows, and the classifier is then taken over as it is.
        min_share: of the network's weights without its classifier, by number of elements, what must be in the file.

    Raises:
        ValueError: a shape differs otherwise, or too few names are the network's; the network is then unchanged.
    """
    own, classifier = network.state_dict(), head.names(network)
    named = match_names(network, weights.tensors)
    try:
        changed = adapted(network, named)
    except ValueError as error:
        raise ValueError(f"weights {weights.source}: {error}") from error
    fitting = _fitting(weights.source, own, classifier, changed)
    doubts = [] if class_names is None else head.take_rows(own, classifier, fitting, weights.class_names, class_names)
    before = {name: tensor.clone() for name, tensor in own.items()}
    # Only the root says its version: modules below then also take names from before their own renamings.
    fitting._metadata = {"": {"version": network._version}}  # type: ignore[attr-defined]
    fresh, unused = network.load_state_dict(fitting, strict=False)
    filled = _share(own, {*own} - {*fresh}, classifier)
    if filled < min_share:
        network.load_state_dict(before)
        raise ValueError(_refusal(weights.source, filled, named, own))
    names = [name for name in own if _counts(name)]
    report = LoadReport(
        source=weights.source,
        loaded=[name for name in names if name not in fresh],
        fresh=[name for name in names if name in fresh],
        unused=[name for name in unused if _counts(name)],
        resampled=[n for n in names if n in fitting and n in named and named[n].shape != fitting[n].shape],
        doubts=doubts,
    )
    doubts += _doubts_of_shares(report, filled, _share(changed, {*changed} - {*unused}, classifier), classifier)
    return report


def match_names(network: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Takes prefixes off names until the network knows them.

    `module.`, `_orig_mod.`, `net.`, `network.` and `model.` wherever they stand, and any other prefix, such as
    `backbone.`, that stands before most of the network's names.

    Raises:
        ValueError: two names become the same, or two prefixes stand before as many of the network's names.
    """
    own = network.state_dict().keys()
    known = _renamed(tensors, {name: _without_prefixes(name, own) for name in tensors})
    prefix = _common_prefix(known, own)
    return _renamed(known, {name: name.removeprefix(prefix) for name in known}) if prefix else known


def _renamed(tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    matched: dict[str, str] = {}
    for name, short in names.items():
        if short in matched:
            raise ValueError(f"weights: both {matched[short]} and {name} would be {short}; remove one from the file")
        matched[short] = name
    return {short: tensors[name] for short, name in matched.items()}


def _common_prefix(names: Collection[str], own: Set[str]) -> str:
    """What stands before more than half of the network's names; "" where the names themselves are there as often."""
    counts = Counter(
        name.removesuffix(end) for name in names for end in _ends(name) if end in own and name.removesuffix(end) != name
    )
    best = [prefix for prefix, count in counts.most_common(2) if count > max(len(own) / 2, len(own & set(names)))]
    if len(best) == 2 and counts[best[0]] == counts[best[1]]:
        raise ValueError(f"weights: the network's names stand after {best[0]} and after {best[1]}; remove one of them")
    return best[0] if best else ""


def _ends(name: str) -> Iterator[str]:
    """The name and what follows each of its dots."""
    while name:
        yield name
        name = name.partition(".")[2]


def _fitting(
    source: str, own: Mapping[str, Tensor], classifier: Collection[str], named: Mapping[str, Tensor]
) -> OrderedDict[str, Tensor]:
    """All tensors, by the network's names, but those of a classifier for another number of classes."""
    fitting: OrderedDict[str, Tensor] = OrderedDict()
    for name, tensor in named.items():
        if name not in own or tensor.shape == own[name].shape:
            fitting[name] = tensor
        elif name not in classifier or own[name].shape[1:] != tensor.shape[1:]:
            raise ValueError(
                f"weights {source}: {name} is {tuple(tensor.shape)} there, {tuple(own[name].shape)} here\n"
                "Give the network the settings it had when the file was written (depth, width, stem, image size, ...)."
            )
    if own.keys().isdisjoint(fitting):
        raise ValueError(f"weights {source}: nothing in it fits this network\n{_both(named, own)}")
    return fitting


def _doubts_of_shares(report: LoadReport, filled: float, used: float, classifier: Collection[str]) -> list[str]:
    """What to warn about where the network gets a part of its weights only, or a part of the file's is used."""
    absent = [name for name in report.fresh if name not in classifier]
    doubts = []
    if absent:
        doubts.append(
            f"{filled:.1%} of the network's weights without its classifier are in the file; "
            f"{len(absent)} tensors are not and start at random: {_shortened(absent)}"
        )
    if used < MOSTLY:
        doubts.append(
            f"{used:.1%} of the file's weights are used; {len(report.unused)} tensors are not, "
            f"as if it were of a larger network: {_shortened(report.unused)}"
        )
    return doubts


def _refusal(source: str, filled: float, named: Collection[str], own: Collection[str]) -> str:
    return (
        f"weights {source}: it has only {filled:.1%} of the network's weights, its classifier aside\n"
        f"{_both(named, own)}\n"
        f"If that is what you want, say so: weights_min_share={int(filled * 100) / 100}"
    )


def _share(tensors: Mapping[str, Tensor], among: Collection[str], classifier: Collection[str]) -> float:
    """What part of the elements is in tensors `among` these, the classifier aside.

    Integers, such as BatchNorm's counters, are no weights.
    """
    sizes = {n: tensor.numel() for n, tensor in tensors.items() if n not in classifier and tensor.is_floating_point()}
    total = sum(sizes.values())
    return sum(size for name, size in sizes.items() if name in among) / total if total else 1.0


def _both(named: Collection[str], own: Collection[str]) -> str:
    return f"  the file has    {_shortened(list(named))}\n  the network has {_shortened(list(own))}"


def _without_prefixes(name: str, own: Collection[str]) -> str:
    while name not in own and name.startswith(PREFIXES):
        name = name.partition(".")[2]
    return name


def _counts(name: str) -> bool:
    """Whether the report names it: BatchNorm's step counters are loaded in silence."""
    return not name.endswith("num_batches_tracked")


def _shortened(names: Sequence[str], shown: int = 4) -> str:
    rest = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {rest} more" if rest > 0 else "")
