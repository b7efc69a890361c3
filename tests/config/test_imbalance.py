"""What `imbalance=` chooses with other options, and which of them it refuses."""

from typing import Any

import pytest
from conf_groups import composed
from omegaconf import OmegaConf

from fovea.config.imbalance import check_imbalance


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["imbalance=none"], ("CrossEntropy", None, "Shuffled", None)),
        (["imbalance=class_weights"], ("CrossEntropy", "balanced", "Shuffled", None)),
        (["imbalance=class_weights", "loss=focal"], ("FocalLoss", "balanced", "Shuffled", None)),
        (
            ["imbalance=class_weights", "loss.class_weights=effective:0.9"],
            ("CrossEntropy", "effective:0.9", "Shuffled", None),
        ),
        (["imbalance=class_weights", "data=digits_multilabel"], ("BinaryCrossEntropy", "balanced", "Shuffled", None)),
        (["imbalance=sampler"], ("CrossEntropy", None, "ClassBalanced", None)),
        (["imbalance=sampler", "sampler=weighted"], ("CrossEntropy", None, "Weighted", None)),
        (["imbalance=logit_adjustment"], ("LogitAdjustment", None, "Shuffled", None)),
        (["imbalance=ldam_drw"], ("LDAM", "effective", "Shuffled", 56)),
        (["imbalance=ldam_drw", "callbacks=[default,ema]"], ("LDAM", "effective", "Shuffled", 56)),
    ],
)
def test_a_treatment_chooses_its_parts_beside_what_is_typed(words: list[str], expected: tuple[Any, ...]) -> None:
    cfg = composed(*words)
    names = [str(node._target_).rpartition(".")[2] for node in (cfg.loss, cfg.data.sampler)]
    deferred = cfg.callbacks.get("deferred_weights")
    assert (names[0], cfg.loss.class_weights, names[1], deferred and deferred.from_step) == expected
    assert "best" in cfg.callbacks
    check_imbalance(cfg)


def test_ldam_gets_the_scale_of_the_classifier() -> None:
    assert composed("imbalance=ldam_drw").loss.scale == composed("imbalance=ldam_drw").cosine_scale == 30
    assert composed("imbalance=ldam_drw", "cosine_scale=16").loss.scale == 16


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["imbalance=ldam_drw", "loss=bce"], "imbalance=ldam_drw is the loss LDAM, but the loss is BinaryCrossEntropy"),
        (["imbalance=logit_adjustment", "loss=focal"], "imbalance=logit_adjustment is the loss LogitAdjustment, but"),
        (["imbalance=class_weights", "loss.class_weights=null"], "imbalance=class_weights needs class weights"),
        (["imbalance=ldam_drw", "loss.class_weights=null"], "imbalance=ldam_drw needs class weights"),
        (["imbalance=sampler", "sampler=shuffled"], "imbalance=sampler .* but the sampler is Shuffled"),
        (["imbalance=sampler", "sampler=repeated_augmentation"], "but the sampler is RepeatedAugmentation"),
        (["imbalance=ldam_drw", "callbacks.deferred_weights=null"], "but callbacks.deferred_weights is null"),
        (["imbalance=logit_adjustment", "sampler=class_balanced"], "both correct for the classes' frequencies"),
        (["loss=ldam"], "loss=ldam has margins between cosines, but .*: type cosine_scale=30"),
        (["loss=ldam", "loss.scale=30"], "loss.scale=30 and cosine_scale=None"),
        (["loss=ldam", "loss.scale=10", "cosine_scale=30"], "loss.scale=10 and cosine_scale=30"),
        (["loss=logit_adjustment", "imbalance=sampler"], "both correct for the classes' frequencies"),
    ],
)
def test_options_that_contradict_the_treatment_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_imbalance(composed(*words))


def test_the_config_of_an_earlier_version_has_no_treatment() -> None:
    check_imbalance(OmegaConf.masked_copy(composed("loss=focal"), ["loss", "data"]))


@pytest.mark.parametrize(
    ("words", "by"),
    [
        (["imbalance=sampler", "loss.class_weights=balanced"], "the sampler ClassBalanced and loss.class_weights"),
        (["imbalance=class_weights", "loss=logit_adjustment"], "the loss LogitAdjustment and loss.class_weights"),
        (
            ["imbalance=ldam_drw", "sampler=class_balanced"],
            "the loss LDAM and the sampler ClassBalanced and loss.class",
        ),
        (["imbalance=ldam_drw"], None),
        (["imbalance=class_weights"], None),
    ],
)
def test_two_corrections_are_warned_about(words: list[str], by: str | None, caplog: pytest.LogCaptureFixture) -> None:
    check_imbalance(composed(*words))
    assert f"corrected for more than once, by {by}" in caplog.text if by else not caplog.text
