import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.plugins.hparams.metadata import SESSION_START_INFO_TAG
from tensorboard.summary.writer import event_file_writer

from fovea.loggers.tensorboard import TensorBoard


def logger(folder: Path) -> TensorBoard:
    return TensorBoard(save_dir=folder, name="", version="tensorboard")


def shown(folder: Path) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars("loss")]


def test_a_resumed_run_shows_each_step_once(tmp_path: Path) -> None:
    first = logger(tmp_path)
    for step in range(5):
        first.log_metrics({"loss": float(step)}, step)
    first.save()
    second = logger(tmp_path)
    second.resume_after(2)
    for step in (3, 4, 5):
        second.log_metrics({"loss": 10.0 * step}, step)
    second.finalize("success")
    second.log_metrics({"loss": 60.0}, 6)  # a test comes after the training
    second.save()
    assert shown(tmp_path) == [(0, 0), (1, 1), (2, 2), (3, 30), (4, 40), (5, 50), (6, 60)]


def hyperparameters(folder: Path) -> tuple[dict[str, str | float], dict[str, list[float]]]:
    """Return (hyperparameters, metrics) of a run as TensorBoard's HParams tab reads them."""
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    content = events.summary_metadata[SESSION_START_INFO_TAG].plugin_data.content
    started = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    shown = {name: getattr(value, value.WhichOneof("kind")) for name, value in started.hparams.items()}
    return shown, {tag: [e.value for e in events.Scalars(tag)] for tag in events.Tags()["scalars"] if "final/" in tag}


def test_the_hparams_tab_shows_the_latest_hyperparameters_and_figures_of_a_run(tmp_path: Path) -> None:
    first = logger(tmp_path)
    first.log_hyperparams({"optimizer.lr": 0.1, "model.name": "resnet18"})
    assert hyperparameters(tmp_path) == ({"optimizer.lr": 0.1, "model.name": "resnet18"}, {})
    first.log_hyperparams({"optimizer.lr": 0.1, "model.name": "resnet18"}, {"final/test/accuracy": 0.5})
    assert hyperparameters(tmp_path)[1] == {"final/test/accuracy": [0.5]}
    second = logger(tmp_path)  # the run is resumed with more epochs
    second.log_hyperparams({"optimizer.lr": 0.1, "model.name": "resnet18", "trainer.max_epochs": 9})
    second.log_hyperparams({"trainer.max_epochs": 9}, {"final/test/accuracy": 0.75})
    assert hyperparameters(tmp_path) == ({"trainer.max_epochs": 9.0}, {"final/test/accuracy": [0.75]})


@pytest.mark.parametrize("written_before", range(7, 11))
def test_a_run_of_less_than_a_second_shows_its_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written_before: int
) -> None:
    """TensorBoard numbers the files of a process and sorts the numbers as text: 10 comes before 9."""
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(written_before))
    run = logger(tmp_path)
    run.resume_after(-1)
    run.log_metrics({"loss": 1.0}, 0)
    run.log_hyperparams({}, {"final/test/accuracy": 0.5})
    run.finalize("success")
    assert hyperparameters(tmp_path)[1] == {"final/test/accuracy": [0.5]}


def test_a_trained_run_is_in_the_hparams_tab_with_its_config_and_final_figures(trained: Path) -> None:
    shown, figures = hyperparameters(trained)
    assert (shown["optimizer.lr"], shown["task_name"]) == (0.1, "train")
    results = json.loads((trained / "results.json").read_text())
    assert figures["final/best/val/accuracy"] == [pytest.approx(results["best"]["value"])]
    assert figures["final/test/loss"] == [pytest.approx(results["test"]["loss"])]
