import logging
from typing import Any

import pytest
from conf_groups import composed
from hydra.errors import InstantiationException
from lightning.pytorch.loggers.logger import Logger, rank_zero_experiment

from fovea import build
from fovea.loggers.tensorboard import TensorBoard
from fovea.loggers.tolerant import tolerant


class Unreliable(Logger):
    """Works until `fails` is set."""

    def __init__(self) -> None:
        self.fails = False
        self.calls: list[Any] = []

    @property
    @rank_zero_experiment
    def experiment(self) -> list[Any]:
        if self.fails:
            raise ConnectionError("nobody answers\nand more")
        return self.calls

    @property
    def name(self) -> str:
        return "unreliable"

    @property
    def version(self) -> str:
        return "1"

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.experiment.append((metrics, step))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self.experiment.append(params)

    def resume_after(self, step: int) -> int:
        return step + 1


def test_a_logger_that_works_behaves_as_before() -> None:
    logger = tolerant(Unreliable())
    assert isinstance(logger, Unreliable)
    assert (logger.name, logger.version, logger.resume_after(3)) == ("unreliable", "1", 4)
    logger.log_metrics({"loss": 1.0}, step=2)
    assert logger.calls == logger.experiment == [({"loss": 1.0}, 2)]


def test_a_failure_is_logged_once_in_a_line_and_the_logger_is_not_called_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logger, other = tolerant(Unreliable()), tolerant(Unreliable())
    logger.fails = True
    with caplog.at_level(logging.WARNING):
        for step in range(3):
            logger.log_metrics({}, step)
            other.log_metrics({}, step)
        logger.log_hyperparams({})
        logger.finalize("success")
        logger.experiment.add_image("a user's own call")
    assert [record.message for record in caplog.records] == [
        "the logger Unreliable failed, so the run continues without it: nobody answers"
    ]
    logger.fails = False
    logger.log_metrics({}, 4)
    assert logger.calls == []
    assert len(other.calls) == 3


def test_a_tolerant_tensorboard_is_still_one_and_can_resume(tmp_path: Any) -> None:
    logger = tolerant(TensorBoard(save_dir=str(tmp_path), name="", version="tensorboard"))
    assert isinstance(logger, TensorBoard)
    assert type(logger).__name__ == "TensorBoard"
    logger.resume_after(7)
    logger.log_metrics({"loss": 1.0}, 8)
    logger.finalize("success")
    assert list((tmp_path / "tensorboard").glob("events*"))


@pytest.mark.parametrize(
    ("error", "left_out"), [(ConnectionError("nobody answers"), True), (ImportError("not installed"), False)]
)
def test_a_logger_that_fails_at_its_start_is_left_out_unless_it_is_not_installed(
    error: Exception, left_out: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Any
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr("fovea.loggers.tensorboard.TensorBoard.__init__", fail)
    cfg = composed("logger=[csv,tensorboard]", "callbacks=progress", "trainer=cpu", f"run_dir={tmp_path}")
    if not left_out:
        with pytest.raises(InstantiationException, match="not installed"):
            build.trainer(cfg)
        return
    trainer = build.trainer(cfg)
    assert [type(logger).__name__ for logger in trainer.loggers] == ["MetricsCsv"]
    (warning,) = [record.message for record in caplog.records if record.name == "fovea.parts.trainer_parts"]
    assert (
        warning
        == "logger.tensorboard can't be started, and the run goes on without it: ConnectionError: nobody answers"
    )
