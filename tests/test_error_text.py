"""Errors of libraries are recognised by their class names, so these tests raise the real ones."""

from collections.abc import Callable

import pytest
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch.utils.data import DataLoader, Dataset

from fovea.cli.errors.messages import short_errors
from fovea.data.loading.workers import iterate_workers
from fovea.error_text import OtherRankError, exit_code, explain, line, screen_text

KILLED = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")


class Broken(Dataset[int]):
    def __getitem__(self, index: int) -> int:
        raise ValueError("7.png: cut short\nsecond line")

    def __len__(self) -> int:
        return 1


def raised_by(action: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as error:  # noqa: PT011
        action()
    return error.value


def building(target: str, **arguments: object) -> Exception:
    """The error of Hydra when it builds `model`."""
    cfg = OmegaConf.create({"model": {"_target_": target, **arguments}})
    return raised_by(lambda: instantiate(cfg))


def test_an_error_in_building_a_part_names_its_key_and_not_hydra() -> None:
    error = building("torch.nn.Linear", in_features=3, out_features="x")
    assert isinstance(error, InstantiationException)
    assert "Error in call" not in (screen_text(error) or "")
    assert (screen_text(error) or "").startswith("error: model: ")
    assert line(error).startswith("TypeError: ")
    assert exit_code(error) == 2


def test_an_error_of_omegaconf_counts_as_the_users() -> None:
    error = raised_by(lambda: OmegaConf.create({"a": "${nowhere}"}).a)
    assert isinstance(error, OmegaConfBaseException)
    assert "nowhere" in (explain(error) or "")
    assert "object_type" not in (explain(error) or "")


def test_lightnings_error_for_a_wrong_setting_counts_as_the_users() -> None:
    assert explain(MisconfigurationException("no such device")) == "no such device"


def test_a_workers_error_is_printed_without_the_data_loaders_traceback() -> None:
    error = raised_by(lambda: list(iterate_workers(DataLoader(Broken(), num_workers=1))))
    assert "Traceback" in str(error)
    assert explain(error) == "7.png: cut short\nsecond line"
    assert line(error) == "ValueError: 7.png: cut short"


def test_a_killed_worker_is_reported_without_torchs_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop, short_errors():
        raise KILLED
    assert stop.value.code == exit_code(KILLED) == 1
    assert "a data loader worker was killed (signal 9): out of memory?" in capfd.readouterr().err


@pytest.mark.parametrize("error", [TypeError("bug"), AssertionError(), KeyError("x"), torch.OutOfMemoryError("x")])
def test_a_fault_of_the_program_keeps_its_traceback(error: Exception) -> None:
    assert screen_text(error) is None
    assert exit_code(error) == 1
    with pytest.raises(type(error)), short_errors():
        raise error


def test_a_long_text_is_cut_and_another_ranks_error_is_printed_unchanged() -> None:
    assert len((screen_text(ValueError("\n".join("abcdefghijkl"))) or "").splitlines()) == 9
    other = OtherRankError("rank 1: x", "rank 1 failed", 7)
    assert (screen_text(other), line(other), exit_code(other)) == ("rank 1 failed", "rank 1: x", 7)
