"""Logit adjustment after training: what it changes in an evaluation and in predictions, and what it is refused for."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conf_groups import composed
from omegaconf import DictConfig, OmegaConf
from run_files import make_run, predictions
from tasks import Data, make_batches, make_task, make_trainer

from fovea.config import saved
from fovea.losses.logit_adjustment import logit_shift
from fovea.parts import loss_parts
from fovea.report.run import run_page

Invoke = Callable[..., Any]
COUNTS = [90, 9, 1]
BATCHES = make_batches(4, size=8)


def run_config(*words: str, **keys: Any) -> DictConfig:
    cfg = composed(*words).copy()
    OmegaConf.set_struct(cfg, False)
    return DictConfig(OmegaConf.merge(cfg, keys))


def test_a_shifted_test_has_the_metrics_of_bayes_rule_with_equal_classes_and_the_loss_as_it_was() -> None:
    plain, shifted = make_task(), make_task(logit_shift=logit_shift(COUNTS, 1.0))
    trainer = make_trainer()
    before, after = (trainer.test(task, Data([], BATCHES), verbose=False)[0] for task in (plain, shifted))
    probabilities = torch.cat([batch[0] for batch in plain.tested])
    by_bayes = probabilities / torch.tensor(COUNTS)  # p(k | x) / p(k), not normalised
    by_bayes /= by_bayes.sum(1, keepdim=True)
    torch.testing.assert_close(torch.cat([batch[0] for batch in shifted.tested]), by_bayes)
    labels = torch.cat([batch.targets for batch in BATCHES])
    assert after["test/accuracy"] == pytest.approx((by_bayes.argmax(1) == labels).float().mean().item())
    assert after["test/accuracy"] != before["test/accuracy"]
    assert after["test/loss"] == before["test/loss"]
    with torch.no_grad():
        torch.testing.assert_close(shifted.eval().predict_step(BATCHES[0], 0)[0], by_bayes[:8])
    assert shifted.state_dict().keys() == plain.state_dict().keys()


def test_the_shift_is_that_of_the_training_counts_in_the_config(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    counts = {"present": COUNTS, "absent": [10, 91, 99]}
    saved.save(run_config(run_dir=str(tmp_path)), tmp_path)
    shift = loss_parts.shift_of_logits(run_config(logit_adjustment=2, class_counts=counts, run=str(tmp_path)))
    assert shift is not None
    assert shift.tolist() == pytest.approx([-2 * math.log(n / 100) for n in COUNTS], rel=1e-6)
    assert "1 classes without a training image" not in caplog.text
    counts["present"] = [90, 10, 0]
    loss_parts.shift_of_logits(run_config(logit_adjustment=2, class_counts=counts, run=str(tmp_path)))
    assert "1 classes without a training image" in caplog.text
    for none in (None, 0):
        assert loss_parts.shift_of_logits(run_config(logit_adjustment=none)) is None
    assert loss_parts.shift_of_logits(run_config()) is None


@pytest.mark.parametrize(
    ("keys", "message"),
    [({"task": "multilabel"}, "is for one label per image"), ({"class_counts": None}, "class_counts is null")],
)
def test_it_is_refused_for_several_labels_and_without_counts(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"logit_adjustment=1 .*{message}"):
        loss_parts.shift_of_logits(run_config(logit_adjustment=1, **keys))


@pytest.mark.parametrize(
    ("words", "by"),
    [
        (["imbalance=sampler"], "the sampler ClassBalanced"),
        (["imbalance=logit_adjustment"], "the loss LogitAdjustment"),
        (["imbalance=class_weights"], "loss.class_weights"),
        (["imbalance=ldam_drw"], "the loss LDAM and loss.class_weights"),
        (["loss=logit_adjustment"], "the loss LogitAdjustment"),
        (["sampler=weighted"], "the sampler Weighted"),
        (["loss.class_weights=balanced"], "loss.class_weights"),
        (["loss.class_weights={a: 3}", "sampler=class_balanced"], "the sampler ClassBalanced and loss.class_weights"),
        (["sampler=repeated_augmentation", "loss=focal"], None),
    ],
)
def test_a_second_correction_is_warned_about(
    words: list[str], by: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The run has a config of its own, in which there still is a sampler."""
    saved.save(run_config(*words, run_dir=str(tmp_path)), tmp_path)
    base = saved.load("", tmp_path)
    saved.forget_limits(base)
    base |= {"class_counts": {"present": COUNTS, "absent": [10, 91, 99]}}
    loss_parts.shift_of_logits(run_config(**base, run=str(tmp_path), logit_adjustment=1))
    already = f"the training has corrected for the classes' frequencies already, by {by}"
    assert already in caplog.text if by else not caplog.text


def test_the_report_of_an_adjusted_evaluation_says_so_and_has_no_calibration(tmp_path: Path) -> None:
    made = predictions("multiclass", 3, 60)
    for tau in (None, 1.0):
        run = make_run(tmp_path / str(tau), made, logit_adjustment=tau)
        text = run_page.write(run, run, []).read_text("utf-8")
        assert ("lowered by 1 times the log frequency of each class" in text) == (tau is not None)
        assert ("calibrated=true" in text or "as often right as they say" in text) == (tau is None)


@pytest.mark.slow
def test_evaluate_and_predict_apply_it_and_evaluate_keeps_it(
    invoke: Invoke, trained: Path, folder: Path, tmp_path: Path
) -> None:
    config = trained / "config.yaml"
    content = OmegaConf.load(config)
    content.class_counts.present = COUNTS
    OmegaConf.save(content, config)
    tables = []
    for n, words in enumerate(([], ["logit_adjustment=1.5"])):
        output = tmp_path / f"{n}.csv"
        assert invoke("evaluate", f"run={trained}", "report=false", *words).code == 0
        outcome = invoke("predict", f"run={trained}", f"source={folder / 'test'}", f"output={output}", *words)
        assert outcome.code == 0
        tables.append(np.genfromtxt(output, delimiter=",", skip_header=1)[:, -3:])
    expected = tables[0] / np.array(COUNTS) ** 1.5
    np.testing.assert_allclose(tables[1], expected / expected.sum(1, keepdims=True), atol=1e-4)
    results = [json.loads(file.read_text()) for file in sorted(trained.glob("evaluate/*/results.json"))]
    assert {result["logit_adjustment"] for result in results} == {None, 1.5}
    refused = invoke("predict", f"run={trained}", f"source={folder / 'test'}", "logit_adjustment=1", "calibrated=true")
    assert refused.code == 2
    assert "calibrated=true was fitted to probabilities without logit_adjustment=1" in refused.err
