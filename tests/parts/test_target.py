"""What a node's target names is imported, or refused with a remedy."""

import sys
from pathlib import Path

import pytest
from torch.optim import SGD

from fovea.parts.target import imported


def test_what_a_target_names_is_returned() -> None:
    assert imported("optimizer", "torch.optim.SGD") is SGD


@pytest.mark.parametrize("target", ["torch.optim.Nope", "nowhere.SGD", "SGD", "torch..SGD"])
def test_a_target_that_can_not_be_imported_is_refused_with_its_key(target: str) -> None:
    with pytest.raises(ValueError, match=r"^scheduler\._target_=.* can't be imported \(.*\): is it spelt right"):
        imported("scheduler", target)


def test_the_reason_is_said_if_the_targets_module_lacks_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_loss.py").write_text("import nowhere\n\n\nclass Loss: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="No module named 'nowhere'"):
        imported("loss", "own_loss.Loss")


def test_a_target_of_timm_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)  # as if it was not installed
    with pytest.raises(ValueError, match=r"^loss\._target_=timm\.loss\.New can.*: timm is not installed.*\[timm\]"):
        imported("loss", "timm.loss.New")
