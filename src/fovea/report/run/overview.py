"""The overview of a run's report: what was trained and tested, the curves, and how the run was made."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fovea.report.errors import wrong
from fovea.report.prediction_file import Predictions
from fovea.report.run.comparison import Comparison
from fovea.report.run.history import Chart
from fovea.report.run.texts import duration, figure_text


def summary(
    results: Mapping[str, Any],
    provenance: Mapping[str, Any],
    tested: Predictions | None,
    against: Comparison | None,
) -> dict[str, Any]:
    """Return the top of the page: what was trained and tested, and the test figures."""
    return {
        "status": results.get("status", "finished"),
        "error": results.get("error", ""),
        "sentences": [*_trained(results, provenance), *_tested(results, tested), *_compared(against)],
        "split": results.get("split") or results.get("tested_on") or "test",
        "figures": [_figure(name, results, against) for name in sorted(results.get("test") or {})],
        "has_majority": bool(results.get("majority")),
        "other": against.name if against else "",
    }


def _figure(name: str, results: Mapping[str, Any], against: Comparison | None) -> dict[str, str]:
    interval, majority = (results.get("intervals") or {}).get(name), results.get("majority") or {}
    other = against.values if against else {}
    difference = against.differences.get(name) if against else None
    return {
        "name": name,
        "value": figure_text(results["test"][name]),
        "interval": "{:.4f} to {:.4f}".format(*interval) if interval else "",
        "majority": figure_text(majority[name]) if name in majority else "",
        "other": figure_text(other[name]) if name in other else "",
        "difference": "{:+.4f} ({:+.4f} to {:+.4f})".format(*difference[:3]) if difference else "",
        "p_value": f"{difference.p_value:.3f}" if difference else "",
    }


def _trained(results: Mapping[str, Any], provenance: Mapping[str, Any]) -> list[str]:
    starts = provenance.get("starts") or []
    if "network" not in results or not starts:
        return []
    images = starts[-1]["data_fingerprint"]["counts"]["train"]
    length = f" for {results['epochs']} epochs ({results['steps']:,} steps)" if results.get("epochs") else ""
    network = f"{results['network']} with {results['parameters']:,} parameters"
    return [f"{network}, trained{length} on {images:,} images; the run took {duration(results['seconds'])}."]


def _tested(results: Mapping[str, Any], tested: Predictions | None) -> list[str]:
    if tested is None:
        return [] if "test" in results else ["There are no test figures, because the run did not reach its test."]
    best, bad = results.get("best"), int(wrong(tested).sum())
    which = "The last weights"
    if best:
        which = f"The best checkpoint (epoch {best['epoch'] + 1}, {results['monitor']} {figure_text(best['value'])})"
    elif results.get("checkpoint"):
        which = Path(results["checkpoint"]).name
    unknown = int((tested.labels == -1).all(1).sum()) if tested.task == "multilabel" else 0
    verb = "is wrong" if tested.task == "multiclass" else "has a wrong label"
    outcome = f"{verb} on {bad:,} of them" if bad else "is right on all of them"
    outcome = f"{outcome} ({unknown:,} have no known label)" if unknown else outcome
    sentences = [f"{which} was tested on {len(tested):,} images of {len(tested.class_names):,} classes, and {outcome}."]
    if tau := results.get("logit_adjustment"):
        sentences.append(f"Its logits are lowered by {tau:g} times the log frequency of each class in training.")
    return sentences


def _compared(against: Comparison | None) -> list[str]:
    if against is None:
        return []
    return [
        f"{against.only_one:,} images are right here and wrong in {against.name}, and {against.only_other:,} the other "
        f"way round (McNemar's exact test: p = {against.p_value:.3g})."
    ]


def curves(charts: Sequence[Chart], results: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the titles of the charts and the time of each phase; and the charts for run.js."""
    best = results.get("best")
    marks = [{"at": best["step"] - 1, "text": "best"}] if best else []
    phases = results.get("phases") or {}
    total = sum(phases.values()) or 1
    section = {
        "charts": list(enumerate(chart.title for chart in charts)),
        "best": f"The best checkpoint is of epoch {best['epoch'] + 1}, step {best['step']:,}." if best else "",
        "phases": [
            {"name": name, "seconds": f"{seconds:.1f}", "percent": round(100 * seconds / total)}
            for name, seconds in phases.items()
        ],
    }
    return section, [{"x": "step", "steps": c.steps, "curves": c.curves, "marks": marks} for c in charts]


def config(changed: Sequence[tuple[str, str, str]], provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return how the run was made: what differs from the defaults, its starts, versions and hardware."""
    starts = provenance.get("starts") or []
    last = starts[-1] if starts else {}
    environment = {**last.get("versions", {}), **last.get("hardware", {})}
    return {
        "changed": [{"key": key, "value": value, "default": default} for key, value, default in changed],
        "starts": [{"command": f"python {shlex.join(start['argv'])}", "text": _start(start)} for start in starts],
        "environment": [(name, str(value)) for name, value in environment.items() if value not in (None, [], "")],
    }


def _start(start: Mapping[str, Any]) -> str:
    git = start.get("git") or {}
    commit = f", commit {git['commit'][:10]}" if git.get("commit") else ""
    return f"{start['time']}{commit}{' with uncommitted changes' if git.get('status') else ''}, seed {start['seed']}"
