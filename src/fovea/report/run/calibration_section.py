"""The section of a report about calibration: how far the probabilities can be believed."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fovea.report.prediction_file import Predictions
from fovea.report.run.texts import figure_text, rounded
from fovea.report.statistics import calibration, rejection


def calibrated(
    tested: Predictions, split: str, fitted: Mapping[str, Any]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """How far the probabilities can be believed, before and after temperature scaling; and the charts for run.js."""
    temperature = fitted["temperature"]
    cooled = calibration.apply_temperature(tested.probabilities, temperature, tested.task)
    both = {"as they are": tested, "with temperature": replace(tested, probabilities=cooled)}
    diagrams = {name: calibration.reliability(predictions) for name, predictions in both.items()}
    measures = {
        "negative log-likelihood": [calibration.negative_log_likelihood(p) for p in both.values()],
        "expected calibration error": [calibration.expected_calibration_error(d) for d in diagrams.values()],
    }
    bins = next(iter(diagrams.values())).counts
    middles = [round((n + 0.5) / len(bins), 4) for n in range(len(bins))]
    charts = [
        {
            "x": "confidence",
            "steps": middles,
            "curves": {name: rounded(diagram.accuracy.tolist()) for name, diagram in diagrams.items()},
            "range_x": [0, 1],
            "range_y": [0, 1.02],
            "marks": [{"diagonal": True}],
        }
    ]
    titles = ["Accuracy by confidence"]
    sentences = [_belief(temperature)]
    if fitted.get("reject"):
        curve = rejection.coverage_curve(both["with temperature"])
        charts.append(
            {
                "x": "share of images that are kept",
                "steps": rounded(curve.coverage.tolist()),
                "curves": {"accuracy": rounded(curve.accuracy.tolist())},
                "range_x": [0, 1],
            }
        )
        titles.append("Accuracy when the least confident images are rejected")
        sentences.append(_rejection(both["with temperature"], split, fitted["reject"]))
    rows = [{"name": n, "before": figure_text(b), "after": figure_text(a)} for n, (b, a) in measures.items()]
    section = {"temperature": f"{temperature:.2f}", "rows": rows, "sentences": sentences, "split": split}
    return section | {"charts": titles}, charts


def _belief(temperature: float) -> str:
    if abs(temperature - 1) < 0.05:
        return "On validation the probabilities are about as often right as they say."
    how = "too high" if temperature > 1 else "too low"
    return (
        f"On validation the confidence is {how}: dividing the logits by {temperature:.2f} gives the best likelihood. "
        "predict.py does so with calibrated=true."
    )


def _rejection(cooled: Predictions, split: str, reject: Mapping[str, float]) -> str:
    kept = rejection.at_threshold(cooled, reject["threshold"])
    outcome = f"keeps {100 * kept.coverage:.1f} % of the images, of which {100 * kept.accuracy:.2f} % are right"
    return (
        f"With predict.py reject=auto, images below {reject['threshold']:.3f} (calibrated) are predicted as unknown. "
        f"On {split} this {outcome if kept.coverage else 'keeps no image'}."
    )
