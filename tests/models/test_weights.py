import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fovea.models.weights import fill, load_weights, read_weights


class Net(nn.Module):
    def __init__(self, classes: int = 3, width: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)
        self.bn = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, classes)


HEAD = ["fc.weight", "fc.bias"]
BODY = ["conv.weight", "conv.bias", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"]


def trained(classes: int = 3, width: int = 4) -> dict[str, Tensor]:
    state = Net(classes, width).state_dict()
    return {name: torch.randn(t.shape) if t.is_floating_point() else t + 7 for name, t in state.items()}


def assert_equal(network: nn.Module, state: dict[str, Tensor], names: list[str] | None = None) -> None:
    own = network.state_dict()
    assert all(torch.equal(own[name], state[name]) for name in names or state)


def assert_short(error: pytest.ExceptionInfo[ValueError]) -> None:
    assert len(str(error.value).splitlines()) <= 4


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt"])
def test_a_state_dict_is_loaded_whole(tmp_path: Path, suffix: str) -> None:
    state, network, file = trained(), Net(), tmp_path / f"weights{suffix}"
    torch.save(state, file)
    report = load_weights(network, file)
    assert_equal(network, state)
    assert (report.loaded, report.fresh, report.unused) == (BODY + HEAD, [], [])


def test_safetensors_are_loaded(tmp_path: Path) -> None:
    state, network = trained(), Net()
    save_file(state, tmp_path / "weights.safetensors")
    load_weights(network, str(tmp_path / "weights.safetensors"))
    assert_equal(network, state)


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "net.", "network.", "model.", "network._orig_mod.", "model.net.module."]
)
def test_prefixes_are_taken_off(tmp_path: Path, prefix: str) -> None:
    state, network = trained(), Net()
    torch.save({prefix + name: tensor for name, tensor in state.items()}, tmp_path / "w.pth")
    report = load_weights(network, tmp_path / "w.pth")
    assert_equal(network, state)
    assert report.unused == []


def test_a_prefix_that_is_part_of_the_networks_own_names_stays(tmp_path: Path) -> None:
    state, network = trained(), nn.Module()
    network.model = Net()
    torch.save({f"module.model.{name}": tensor for name, tensor in state.items()}, tmp_path / "w.pth")
    load_weights(network, tmp_path / "w.pth")
    assert_equal(network.model, state)


def test_two_names_that_become_one_are_refused(tmp_path: Path) -> None:
    torch.save({"net.fc.bias": torch.ones(3), "model.fc.bias": torch.zeros(3)}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"net\.fc\.bias and model\.fc\.bias"):
        load_weights(Net(), tmp_path / "w.pth")


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "ema", "model_ema", "state_dict_ema"])
def test_wrappers_are_opened(tmp_path: Path, wrapper: str) -> None:
    state, network = trained(), Net()
    torch.save({wrapper: state, "optimizer": {"state": {}}, "epoch": 3}, tmp_path / "w.pth")
    report = load_weights(network, tmp_path / "w.pth")
    assert_equal(network, state)
    assert report.source.endswith(f"w.pth[{wrapper}]")


def test_a_wrapper_in_a_wrapper_is_opened(tmp_path: Path) -> None:
    state, network = trained(), Net()
    torch.save({"model": {"state_dict": state}}, tmp_path / "w.pth")
    load_weights(network, tmp_path / "w.pth")
    assert_equal(network, state)


@pytest.mark.parametrize(
    ("present", "wins"),
    [
        (["model", "ema"], "ema"),
        (["model", "model_ema"], "model_ema"),
        (["state_dict", "state_dict_ema"], "state_dict_ema"),
        (["model", "state_dict"], "state_dict"),
    ],
)
def test_averaged_weights_win_over_raw_ones(tmp_path: Path, present: list[str], wins: str) -> None:
    content, network = {name: trained() for name in present}, Net()
    torch.save(content, tmp_path / "w.pth")
    load_weights(network, tmp_path / "w.pth")
    assert_equal(network, content[wins])


def test_a_head_for_other_classes_is_left_fresh(tmp_path: Path) -> None:
    state, network = trained(classes=1000), Net(classes=3)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    torch.save(state, tmp_path / "w.pth")
    report = load_weights(network, tmp_path / "w.pth")
    assert_equal(network, state, BODY)
    assert_equal(network, before, HEAD)
    assert (report.loaded, report.fresh) == (BODY, HEAD)


def test_a_convolution_may_be_the_head(tmp_path: Path) -> None:
    network, theirs = (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, classes, 1)) for classes in (3, 10))
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    assert load_weights(network, tmp_path / "w.pth").fresh == ["1.weight", "1.bias"]


@pytest.mark.parametrize("classes", [3, 10])
def test_any_other_shape_is_an_error_that_names_both(tmp_path: Path, classes: int) -> None:
    network = Net(width=4)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    torch.save(trained(classes, width=8), tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"conv.weight is \(8, 3, 3, 3\) there, \(4, 3, 3, 3\) here") as error:
        load_weights(network, tmp_path / "w.pth")
    assert_short(error)
    assert_equal(network, before)


def test_a_layer_as_wide_as_there_are_classes_is_no_head(tmp_path: Path) -> None:
    torch.save(trained(classes=3, width=8), tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"fc.weight is \(3, 8\) there, \(3, 3\) here"):
        load_weights(Net(classes=3, width=3), tmp_path / "w.pth")


def test_nothing_matching_is_an_error_that_shows_both_sides(tmp_path: Path) -> None:
    torch.save({"blocks.0.weight": torch.ones(2), "blocks.0.bias": torch.ones(2)}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"has +blocks.0.weight, blocks.0.bias\n.*has conv.weight, conv.bias") as error:
        load_weights(Net(), tmp_path / "w.pth")
    assert_short(error)


def test_a_lightning_checkpoint_gives_its_network_only(tmp_path: Path) -> None:
    state, network = trained(), Net()
    entries = {f"network.{name}": tensor for name, tensor in state.items()}
    entries |= {"loss.pos_weight": torch.ones(3), "metrics.accuracy.tp": torch.zeros(3)}
    torch.save({"state_dict": entries, "epoch": 2, "pytorch-lightning_version": "2.6.6"}, tmp_path / "last.ckpt")
    report = load_weights(network, tmp_path / "last.ckpt")
    assert_equal(network, state)
    assert report.unused == ["loss.pos_weight", "metrics.accuracy.tp"]


def test_the_table_counts_and_shortens(tmp_path: Path) -> None:
    state = trained(classes=10)
    del state["bn.num_batches_tracked"]
    torch.save(state | {"old.num_batches_tracked": torch.tensor(1), "old.weight": torch.ones(1)}, tmp_path / "w.pth")
    assert load_weights(Net(), tmp_path / "w.pth").table().splitlines() == [
        f"weights from {tmp_path / 'w.pth'}",
        "  loaded         6  conv.weight, conv.bias, bn.weight, bn.bias and 2 more",
        "  left fresh     2  fc.weight, fc.bias",
        "  not used       1  old.weight",
    ]


def test_what_the_file_lacks_is_left_fresh(tmp_path: Path) -> None:
    state = trained()
    torch.save({name: state[name] for name in BODY}, tmp_path / "w.pth")
    assert load_weights(Net(), tmp_path / "w.pth").fresh == HEAD


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    torch.save(trained(), tmp_path / "w.pth")
    assert read_weights("~/w.pth").tensors.keys() == trained().keys()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere\.pth: no such file"):
        read_weights(tmp_path / "nowhere.pth")


def test_an_unknown_suffix_is_named_with_those_known(tmp_path: Path) -> None:
    (tmp_path / "w.h5").write_bytes(b"")
    with pytest.raises(ValueError, match=r"w\.h5.*'\.h5' is none of \.pth \.pt \.ckpt \.safetensors"):
        read_weights(tmp_path / "w.h5")


@pytest.mark.parametrize("save", [torch.save, save_file])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_named(tmp_path: Path, save: Callable[..., None], kept: float) -> None:
    file = tmp_path / ("w.pth" if save is torch.save else "w.safetensors")
    save(trained(), file)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(ValueError, match=rf"{file.name}: cannot be read.*\n.*copy it again") as error:
        read_weights(file)
    assert_short(error)


@pytest.mark.parametrize("text", ["<!DOCTYPE html>", "hello world", "Not Found"])
def test_a_file_of_text_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "w.pth").write_text(text)
    with pytest.raises(ValueError, match=r"w\.pth: cannot be read") as error:
        read_weights(tmp_path / "w.pth")
    assert_short(error)


class Malicious:
    """Unpickling it makes a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
        return Path.touch, (self.trace,)


def test_code_in_a_file_does_not_run(tmp_path: Path) -> None:
    file, trace = tmp_path / "w.pth", tmp_path / "ran"
    torch.save(trained() | {"note": Malicious(trace)}, file)
    with pytest.raises(ValueError, match=r"w\.pth: it holds an object.*\n.*weights_only=False") as error:
        load_weights(Net(), file)
    assert_short(error)
    assert not trace.exists()
    torch.load(file, weights_only=False)
    assert trace.exists()  # it would have


def test_an_object_in_a_file_is_named(tmp_path: Path) -> None:
    torch.save({"model": trained(), "args": argparse.Namespace(lr=0.1)}, tmp_path / "w.pth")
    with pytest.raises(
        ValueError, match=r"holds an object, argparse.Namespace.*\n.*save its state_dict alone"
    ) as error:
        read_weights(tmp_path / "w.pth")
    assert_short(error)


@pytest.mark.parametrize("content", [torch.ones(3), [torch.ones(3)], {"epoch": 3}, {}])
def test_a_file_without_named_tensors_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"w\.pth: no tensors by name") as error:
        read_weights(tmp_path / "w.pth")
    assert_short(error)


def test_filling_leaves_the_weights_that_it_is_given_alone(tmp_path: Path) -> None:
    torch.save({f"net.{name}": tensor for name, tensor in trained(classes=10).items()}, tmp_path / "w.pth")
    weights = read_weights(tmp_path / "w.pth")
    names = list(weights.tensors)
    fill(Net(), weights)
    assert list(weights.tensors) == names
