from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fovea.report.tensorboard import TensorBoard


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
    second.go_on_after(2)
    for step in (3, 4, 5):
        second.log_metrics({"loss": 10.0 * step}, step)
    second.finalize("success")
    second.log_metrics({"loss": 60.0}, 6)  # a test comes after the training
    second.save()
    assert shown(tmp_path) == [(0, 0), (1, 1), (2, 2), (3, 30), (4, 40), (5, 50), (6, 60)]
