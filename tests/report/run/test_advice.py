"""Each suggestion follows from its figures, and is not made without them."""

import pytest
from run_files import predictions

from fovea.report.run.advice import suggestions
from fovea.report.run.history import Chart

QUIET = {"status": "finished", "monitor": "val/accuracy", "epochs": 12, "steps": 200, "temperature": 1.0}


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ({"status": "interrupted"}, "resume="),
        ({"intervals": {"accuracy": [0.7, 0.8], "f1": None}}, "0.700 to 0.800"),
        ({"temperature": 2.0}, "promise too much"),
        ({"temperature": 0.5}, "promise too little"),
    ],
)
def test_a_figure_causes_its_suggestion(results: dict, said: str) -> None:
    (text,) = suggestions(QUIET | results, [], None)
    assert said in text


def test_a_gap_between_train_and_val_means_memorized_images() -> None:
    chart = Chart("accuracy", [1, 2], {"train": [0.5, 0.99], "val": [0.5, 0.9]})
    assert "by heart" in suggestions(QUIET, [chart], None)[0]
    close = Chart("accuracy", [1, 2], {"train": [0.5, 0.97], "val": [0.5, 0.95]})
    assert suggestions(QUIET, [close], None) == []


def test_a_low_figure_on_the_training_images_means_that_the_run_is_too_short() -> None:
    low = Chart("accuracy", [1, 2], {"train": [0.5, 0.8], "val": [0.5, 0.79]})
    assert "trainer.max_epochs=24" in suggestions(QUIET, [low], None)[0]
    assert (
        suggestions(QUIET | {"monitor": "val/loss"}, [Chart("loss", [1], {"train": [0.5], "val": [0.4]})], None) == []
    )


def test_classes_with_few_test_images_are_named() -> None:
    tested = predictions("multiclass", 3, 61)  # 21, 20, 20
    assert suggestions(QUIET, [], tested) == []
    (text,) = suggestions(QUIET, [], predictions("multiclass", 3, 59))  # 20, 20, 19
    assert "class 2 (19)" in text


def test_a_run_with_nothing_to_improve_gets_no_suggestion() -> None:
    assert suggestions(QUIET, [], None) == []
