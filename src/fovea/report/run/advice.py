"""Suggests what to try next, by simple rules that each name the figures they follow from."""

from collections.abc import Mapping, Sequence
from typing import Any

from fovea.report.prediction_file import Predictions
from fovea.report.run.history import Chart, Value
from fovea.runs.figure_names import split_name

GAP = 0.05  # between the train and val figure, above which a network has probably memorized images
LEARNT = 0.95  # train figure, below which a network has probably not learnt its training images
WIDE = 0.05  # width of an interval
FEW = 20  # test images of a class


def suggestions(
    results: Mapping[str, Any], charts: Sequence[Chart], tested: Predictions | None, suspects: int = 0
) -> list[str]:
    """Return sentences, the most important first.

    Args:
        results: the run's results.json.
        charts: its curves.
        tested: its test predictions.
        suspects: how many labels look wrong.
    """
    last = _last_figures(charts, results.get("monitor", ""))
    found = [
        _unfinished(results),
        _suspects(suspects),
        _memorized(*last),
        _too_short(*last, results.get("epochs") or 0),
        _wide_interval(results),
        _few_images(tested),
        _overconfident(results),
    ]
    return [text for text in found if text]


def _unfinished(results: Mapping[str, Any]) -> str:
    if results.get("status") in ("interrupted", "failed") and results.get("steps"):
        return "The run did not finish: python src/train.py resume=<this folder> goes on from its last checkpoint."
    return ""


def _suspects(count: int) -> str:
    return f"{count:,} labels look wrong: look at them first, and correct them with data.corrections=." if count else ""


def _memorized(name: str, train: Value, val: Value) -> str:
    if train is None or val is None or train - val < GAP:
        return ""
    return (
        f"train/{name} is {train:.3f} and val/{name} {val:.3f}: the network has learnt its training images by heart. "
        "More images help most; then stronger augmentation (augment=), mixing=mixup_cutmix, more "
        "optimizer.weight_decay, or weights trained on other images (model.weights=DEFAULT)."
    )


def _too_short(name: str, train: Value, val: Value, epochs: int) -> str:
    if train is None or val is None or train - val >= GAP or train > LEARNT or not epochs:
        return ""
    return (
        f"train/{name} is {train:.3f}: the network has not even learnt its training images. A longer run may be better "
        f"(trainer.max_epochs={2 * epochs}), or a larger network, or less augmentation."
    )


def _last_figures(charts: Sequence[Chart], monitor: str) -> tuple[str, Value, Value]:
    """Return the monitored metric with its last train and val figures; None if there are none, or for a loss."""
    name = split_name(monitor.partition("/")[2])[1]
    chart = next((chart for chart in charts if chart.title == name and name != "loss"), None)
    if chart is None:
        return name, None, None
    return name, _last(chart.curves.get("train", ())), _last(chart.curves.get("val", ()))


def _last(values: Sequence[Value]) -> Value:
    return next((value for value in reversed(values) if value is not None), None)


def _wide_interval(results: Mapping[str, Any]) -> str:
    intervals = {name: pair for name, pair in (results.get("intervals") or {}).items() if pair}
    name = split_name(results.get("monitor", "").partition("/")[2])[1]
    low, high = intervals.get(name, (0, 0))
    if high - low <= WIDE:
        return ""
    return (
        f"The 95 % interval of {name} is {low:.3f} to {high:.3f}: with so few test images, smaller differences between "
        "runs mean nothing. Compare several seeds (-m seed=0,1,2), or test on more images."
    )


def _few_images(tested: Predictions | None) -> str:
    if tested is None:
        return ""
    labels = tested.labels
    counts = labels.bincount(minlength=len(tested.class_names)) if labels.ndim == 1 else (labels == 1).sum(0)
    few = [(count, name) for count, name in zip(counts.tolist(), tested.class_names, strict=True) if count < FEW]
    if not few or len(few) == len(tested.class_names):
        return ""
    names = ", ".join(f"{name} ({count})" for count, name in sorted(few)[:5])
    more = f" and {len(few) - 5} more" if len(few) > 5 else ""
    return f"Some classes have fewer than {FEW} test images, so their figures are uncertain: {names}{more}."


def _overconfident(results: Mapping[str, Any]) -> str:
    temperature = results.get("temperature")
    if temperature is None or 0.8 < temperature < 1.25:
        return ""
    return "If you use the probabilities, predict with calibrated=true: as they are, they " + (
        "promise too much." if temperature > 1 else "promise too little."
    )
