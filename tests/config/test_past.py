from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

Invoke = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("data.image_size=24", "data.image_size: 16 then, 24 now"),
        ("data.batch_size=4", "force=true changes it from here on"),
        ("loss.label_smoothing=0.2", "loss.label_smoothing: 0.0 then, 0.2 now"),
        ("augment=none", "augment"),
        ("trainer.accumulate_grad_batches=2", "trainer.accumulate_grad_batches: 1 then, 2 now"),
        ("seed=3", "seed: 0 then, 3 now"),
        ("~optimizer.momentum", "optimizer.momentum can't be changed by resume="),
        ("model.width=99", "weights="),
        ("sampler=class_balanced", "sampler= can't be chosen for a trained run"),
    ],
)
def test_resuming_refuses_what_would_change_the_past(invoke: Invoke, trained: Path, override: str, said: str) -> None:
    code, _, err = invoke("train", f"resume={trained}", override)
    assert code == 2
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize("override", ["optimizer.lr=0.5", "model.width=32"])
def test_what_the_checkpoint_brings_along_can_not_be_forced(invoke: Invoke, trained: Path, override: str) -> None:
    code, _, err = invoke("train", f"resume={trained}", override, "force=true")
    assert code == 2
    assert "can't be changed by resume=" in err


def test_what_is_typed_as_it_was_is_no_change(invoke: Invoke, trained: Path, trained_once: tuple[Path, Path]) -> None:
    config = yaml.safe_load((trained / "config.yaml").read_text())
    command = ["data=folder", f"data.root={trained_once[1]}", "model=se_resnet_small", "optimizer=sgd", "seed=0"]
    values = [
        "data.image_size=16",
        "data.batch_size=8",
        f"optimizer.lr={config['optimizer']['lr']}",
        "sampler=shuffled",
    ]
    code, out, err = invoke("train", f"resume={trained}", *command, *values, "trainer.max_epochs=2")
    assert code == 0, err
    assert "force" not in out


def test_force_is_for_resuming_alone(invoke: Invoke) -> None:
    code, _, err = invoke("train", "force=true")
    assert code == 2
    assert "force: there is no such key" in err
