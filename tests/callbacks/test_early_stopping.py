from types import SimpleNamespace
from typing import Any

from fovea.callbacks.early_stopping import EarlyStopping


def resumed(state: dict[str, Any], patience: int) -> bool:
    """Return True if the callback stops a trainer at its start."""
    stopping, trainer = EarlyStopping("val/loss", patience=patience), SimpleNamespace(should_stop=False)
    stopping.load_state_dict(state)
    stopping.on_train_start(trainer, None)  # type: ignore[arg-type]
    return trainer.should_stop


def test_a_stopped_run_stops_again_when_resumed_unless_its_patience_was_increased() -> None:
    state = EarlyStopping("val/loss", patience=3).state_dict()
    assert not resumed(state | {"wait_count": 2}, patience=3)
    assert resumed(state | {"wait_count": 3}, patience=3)
    assert not resumed(state | {"wait_count": 3}, patience=5)
