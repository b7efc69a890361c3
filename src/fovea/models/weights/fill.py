"""Loads a weights file into a network: matches tensors by name, reports counts, refuses a file that hardly fits."""

import logging
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, nn

from fovea.models.weights import head
from fovea.models.weights.library_files import adapt
from fovea.models.weights.weights_file import Weights, read_weights

log = logging.getLogger(__name__)

PREFIXES = ("module.", "_orig_mod.", "net.", "network.", "model.")
MIN_SHARE = 0.5
MIN_USED = 0.9  # share of a file's weights; if fewer are used, the file is probably of a larger network


@dataclass(frozen=True)
class LoadReport:
    """The result of loading a weights file, as tensor names.

    Attributes:
        source: the file, for messages.
        loaded: tensors of the network that were loaded.
        not_loaded: tensors of the network that the load did not change.
        unused: tensors of the file that were not loaded.
        resampled: tensors that were loaded after resampling to another shape.
        warnings: messages that the user should read.
    """

    source: str
    loaded: list[str]
    not_loaded: list[str]
    unused: list[str]
    resampled: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def table(self) -> str:
        """Return a line per group with its count and first names; BatchNorm's step counters are left out."""
        rows = [("loaded", self.loaded), ("not loaded", self.not_loaded), ("not used", self.unused)]
        rows += [("resampled", self.resampled)] * bool(self.resampled)
        lines = [f"  {label:<10} {len(names):>5}  {_shortened(names)}".rstrip() for label, names in rows]
        return "\n".join([f"weights from {self.source}", *lines])

    def log(self) -> None:
        """Log the table and the warnings."""
        log.info(self.table())
        for warning in self.warnings:
            log.warning("weights %s: %s", self.source, warning)


def load_weights(
    network: nn.Module, path: str | Path, class_names: Sequence[str] | None = None, min_share: float = MIN_SHARE
) -> LoadReport:
    """Read a weights file, copy it into the network and log the report; see `read_weights` and `fill`."""
    report = fill(network, read_weights(path), class_names, min_share)
    report.log()
    return report


def fill(
    network: nn.Module, weights: Weights, class_names: Sequence[str] | None = None, min_share: float = MIN_SHARE
) -> LoadReport:
    """Copy every tensor whose name, without its prefixes, is a name in the network.

    A classifier for another number of classes is not loaded. For the same number of classes, if the file has class
    names, rows are matched by class name, and a class that the file doesn't have keeps the network's row.

    Args:
        network: for K classes.
        weights: see `read_weights`.
        class_names: names of the K classes; None: unknown, the classifier is then loaded unchanged.
        min_share: the share of the network's weights without its classifier, counted in elements, that the file must
            have.

    Raises:
        ValueError: another shape differs, or too few names match; the network is then unchanged.
    """
    own, classifier = network.state_dict(), head.classifier_names(network)
    named = match_names(network, weights.tensors)
    try:
        adapted = adapt(network, named)
    except ValueError as error:
        raise ValueError(f"weights {weights.source}: {error}") from error
    tensors = _loadable(weights.source, own, classifier, adapted)
    warnings: list[str] = []
    if class_names is not None:
        warnings = head.match_class_rows(own, classifier, tensors, weights.class_names, class_names)
    before = {name: tensor.clone() for name, tensor in own.items()}
    # A version for the root only: modules below then also accept the names that they had in older versions.
    tensors._metadata = {"": {"version": network._version}}  # type: ignore[attr-defined]
    missing, unused = network.load_state_dict(tensors, strict=False)
    share = _share(own, {*own} - {*missing}, classifier)
    if share < min_share:
        network.load_state_dict(before)
        raise ValueError(_too_few_text(weights.source, share, named, own))
    names = [name for name in own if _is_reported(name)]
    report = LoadReport(
        source=weights.source,
        loaded=[name for name in names if name not in missing],
        not_loaded=[name for name in names if name in missing],
        unused=[name for name in unused if _is_reported(name)],
        resampled=[n for n in names if n in tensors and n in named and named[n].shape != tensors[n].shape],
        warnings=warnings,
    )
    warnings += _share_warnings(report, share, _share(adapted, {*adapted} - {*unused}, classifier), classifier)
    return report


def match_names(network: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove prefixes from the tensors' names until they are names of the network.

    `module.`, `_orig_mod.`, `net.`, `network.` and `model.` are always removed; any other prefix, such as
    `backbone.`, if the file has it before most of the network's names.

    Raises:
        ValueError: two names become the same, or two prefixes are equally frequent before names of the network.
    """
    own = network.state_dict().keys()
    known = _rename(tensors, {name: _without_prefixes(name, own) for name in tensors})
    prefix = _common_prefix(known, own)
    return _rename(known, {name: name.removeprefix(prefix) for name in known}) if prefix else known


def _rename(tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    matched: dict[str, str] = {}
    for name, short in names.items():
        if short in matched:
            raise ValueError(
                f"weights: {matched[short]} and {name} both become {short} without prefix; remove one of them"
            )
        matched[short] = name
    return {short: tensors[name] for short, name in matched.items()}


def _common_prefix(names: Collection[str], own: Set[str]) -> str:
    """Return the prefix that the file has before more than half of the network's names, else "".

    Also "" if at least as many of the network's names are in the file without that prefix.
    """
    counts = Counter(
        name.removesuffix(end)
        for name in names
        for end in _suffixes(name)
        if end in own and name.removesuffix(end) != name
    )
    best = [prefix for prefix, count in counts.most_common(2) if count > max(len(own) / 2, len(own & set(names)))]
    if len(best) == 2 and counts[best[0]] == counts[best[1]]:
        raise ValueError(
            f"weights: the file has the network twice, with the prefix {best[0]} and with {best[1]}; remove one"
        )
    return best[0] if best else ""


def _suffixes(name: str) -> Iterator[str]:
    """a.b.weight -> a.b.weight, b.weight, weight"""
    while name:
        yield name
        name = name.partition(".")[2]


def _loadable(
    source: str, own: Mapping[str, Tensor], classifier: Collection[str], named: Mapping[str, Tensor]
) -> OrderedDict[str, Tensor]:
    """Return all tensors except those of a classifier for another number of classes.

    Raises:
        ValueError: another shape differs, or no tensor is left that the network has.
    """
    loadable: OrderedDict[str, Tensor] = OrderedDict()
    for name, tensor in named.items():
        if name not in own or tensor.shape == own[name].shape:
            loadable[name] = tensor
        elif name not in classifier or own[name].shape[1:] != tensor.shape[1:]:
            raise ValueError(
                f"weights {source}: {name} is {tuple(tensor.shape)} in the file and {tuple(own[name].shape)} in the "
                "network\nUse the settings that the file was written with (depth, width, stem, image size, ...)."
            )
    if own.keys().isdisjoint(loadable):
        raise ValueError(f"weights {source}: no tensor in it matches this network by name\n{_names_text(named, own)}")
    return loadable


def _share_warnings(report: LoadReport, loaded: float, used: float, classifier: Collection[str]) -> list[str]:
    """Return a warning if only a share of the network was loaded, and one if only a share of the file was used."""
    missing = [name for name in report.not_loaded if name not in classifier]
    warnings = []
    if missing:
        warnings.append(
            f"{loaded:.1%} of the network's weights without its classifier are in the file; "
            f"{len(missing)} tensors are not and start at random: {_shortened(missing)}"
        )
    if used < MIN_USED:
        warnings.append(
            f"{used:.1%} of the file's weights are used; {len(report.unused)} tensors are not, "
            f"so the file may be of a larger network: {_shortened(report.unused)}"
        )
    return warnings


def _too_few_text(source: str, share: float, named: Collection[str], own: Collection[str]) -> str:
    return (
        f"weights {source}: the file has only {share:.1%} of the network's weights (without its classifier)\n"
        f"{_names_text(named, own)}\n"
        f"To load it all the same: weights_min_share={int(share * 100) / 100}"
    )


def _share(tensors: Mapping[str, Tensor], among: Collection[str], classifier: Collection[str]) -> float:
    """Return the share of the elements that is in the tensors named in `among`.

    The classifier and integer tensors, such as BatchNorm's counters, are not counted.
    """
    sizes = {n: tensor.numel() for n, tensor in tensors.items() if n not in classifier and tensor.is_floating_point()}
    total = sum(sizes.values())
    return sum(size for name, size in sizes.items() if name in among) / total if total else 1.0


def _names_text(named: Collection[str], own: Collection[str]) -> str:
    return f"  the file has    {_shortened(list(named))}\n  the network has {_shortened(list(own))}"


def _without_prefixes(name: str, own: Collection[str]) -> str:
    while name not in own and name.startswith(PREFIXES):
        name = name.partition(".")[2]
    return name


def _is_reported(name: str) -> bool:
    """Return False for BatchNorm's step counters, which nobody wants to see in the report."""
    return not name.endswith("num_batches_tracked")


def _shortened(names: Sequence[str], shown: int = 4) -> str:
    rest = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {rest} more" if rest > 0 else "")
