import argparse
import gzip
import logging
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fovea.models.weights.fill import fill, load_weights
from fovea.models.weights.weights_file import Weights, read_weights


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
def test_a_state_dict_is_loaded_completely(tmp_path: Path, suffix: str) -> None:
    state, network, file = trained(), Net(), tmp_path / f"weights{suffix}"
    torch.save(state, file)
    report = load_weights(network, file)
    assert_equal(network, state)
    assert (report.loaded, report.not_loaded, report.unused) == (BODY + HEAD, [], [])


def test_safetensors_are_loaded(tmp_path: Path) -> None:
    state, network = trained(), Net()
    save_file(state, tmp_path / "weights.safetensors")
    load_weights(network, str(tmp_path / "weights.safetensors"))
    assert_equal(network, state)


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "net.", "network.", "model.", "network._orig_mod.", "model.net.module."]
)
def test_prefixes_are_removed(tmp_path: Path, prefix: str) -> None:
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
def test_tensors_under_a_key_are_found(tmp_path: Path, wrapper: str) -> None:
    state, network = trained(), Net()
    torch.save({wrapper: state, "optimizer": {"state": {}}, "epoch": 3}, tmp_path / "w.pth")
    report = load_weights(network, tmp_path / "w.pth")
    assert_equal(network, state)
    assert report.source.endswith(f"w.pth[{wrapper}]")


def test_tensors_under_nested_keys_are_found(tmp_path: Path) -> None:
    state, network = trained(), Net()
    torch.save({"model": {"state_dict": state}}, tmp_path / "w.pth")
    load_weights(network, tmp_path / "w.pth")
    assert_equal(network, state)


@pytest.mark.parametrize(
    ("keys", "used"),
    [
        (["model", "ema"], "ema"),
        (["model", "model_ema"], "model_ema"),
        (["state_dict", "state_dict_ema"], "state_dict_ema"),
        (["state_dict", "state_dict_swa"], "state_dict_swa"),
        (["state_dict", "state_dict_swa", "state_dict_ema"], "state_dict_ema"),
        (["model", "state_dict"], "state_dict"),
    ],
)
def test_averaged_weights_are_preferred_to_raw_ones(tmp_path: Path, keys: list[str], used: str) -> None:
    content, network = {name: trained() for name in keys}, Net()
    torch.save(content, tmp_path / "w.pth")
    load_weights(network, tmp_path / "w.pth")
    assert_equal(network, content[used])


def test_the_averaged_weights_that_the_run_monitored_are_preferred(tmp_path: Path) -> None:
    content = {name: trained() for name in ("state_dict", "state_dict_ema", "state_dict_swa")}
    torch.save(content | {"config": {"monitor": "val/swa_loss"}}, tmp_path / "w.pth")
    network = Net()
    load_weights(network, tmp_path / "w.pth")
    assert_equal(network, content["state_dict_swa"])


def test_a_head_for_another_number_of_classes_is_not_loaded(tmp_path: Path) -> None:
    state, network = trained(classes=1000), Net(classes=3)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    torch.save(state, tmp_path / "w.pth")
    report = load_weights(network, tmp_path / "w.pth")
    assert_equal(network, state, BODY)
    assert_equal(network, before, HEAD)
    assert (report.loaded, report.not_loaded) == (BODY, HEAD)


def test_a_convolution_may_be_the_head(tmp_path: Path) -> None:
    network, other = (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, classes, 1)) for classes in (3, 10))
    torch.save(other.state_dict(), tmp_path / "w.pth")
    assert load_weights(network, tmp_path / "w.pth").not_loaded == ["1.weight", "1.bias"]


@pytest.mark.parametrize("classes", [3, 10])
def test_any_other_shape_is_an_error_that_names_both(tmp_path: Path, classes: int) -> None:
    network = Net(width=4)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    torch.save(trained(classes, width=8), tmp_path / "w.pth")
    with pytest.raises(
        ValueError, match=r"conv.weight is \(8, 3, 3, 3\) in the file and \(4, 3, 3, 3\) in the network"
    ) as error:
        load_weights(network, tmp_path / "w.pth")
    assert_short(error)
    assert_equal(network, before)


def test_a_layer_as_wide_as_there_are_classes_is_no_head(tmp_path: Path) -> None:
    torch.save(trained(classes=3, width=8), tmp_path / "w.pth")
    with pytest.raises(
        ValueError, match=r"conv.weight is \(8, 3, 3, 3\) in the file and \(3, 3, 3, 3\) in the network"
    ):
        load_weights(Net(classes=3, width=3), tmp_path / "w.pth")


def test_no_matching_name_is_an_error_that_lists_names_of_both(tmp_path: Path) -> None:
    torch.save({"blocks.0.weight": torch.ones(2), "blocks.0.bias": torch.ones(2)}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"has +blocks.0.weight, blocks.0.bias\n.*has conv.weight, conv.bias") as error:
        load_weights(Net(), tmp_path / "w.pth")
    assert_short(error)


def test_only_the_network_of_a_lightning_checkpoint_is_loaded(tmp_path: Path) -> None:
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
        "  not loaded     2  fc.weight, fc.bias",
        "  not used       1  old.weight",
    ]


def test_tensors_missing_from_the_file_are_not_loaded(tmp_path: Path) -> None:
    state = trained()
    torch.save({name: state[name] for name in BODY}, tmp_path / "w.pth")
    assert load_weights(Net(), tmp_path / "w.pth").not_loaded == HEAD


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    torch.save(trained(), tmp_path / "w.pth")
    assert read_weights("~/w.pth").tensors.keys() == trained().keys()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere\.pth: no such file"):
        read_weights(tmp_path / "nowhere.pth")


@pytest.mark.parametrize("name", ["model.pth.tar", "pytorch_model.bin", "model.th", "model"])
@pytest.mark.parametrize("save", [torch.save, save_file])
def test_the_format_is_found_from_the_content_and_not_the_suffix(
    tmp_path: Path, name: str, save: Callable[..., None]
) -> None:
    state, network = trained(), Net()
    save(state, tmp_path / name)
    load_weights(network, tmp_path / name)
    assert_equal(network, state)


def scripted(file: Path) -> None:
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), file)


def exported(file: Path) -> None:
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),)), file)


def zipped(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("weights.pth", b"")


def in_a_tar(file: Path) -> None:
    with tarfile.open(file, "w") as archive:
        archive.add(__file__, "weights.py")


OTHER_KINDS: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "TorchScript": ("w.pt", scripted, r"TorchScript.*\n.*torch\.jit\.load\(file\)\.state_dict\(\)"),
    "torch.export": ("w.pt2", exported, r"torch\.export.*\n.*torch\.export\.load\(file\)\.state_dict"),
    "zip": ("w.zip", zipped, "zip archive.*\n.*unpack it"),
    "tar": ("w.pth.tar", in_a_tar, "tar archive.*\n.*unpack it"),
    "npz": ("w.npz", lambda file: np.savez(file, kernel=np.zeros(2)), "NumPy arrays.*\n.*state_dict"),
    "Keras": ("w.bin", lambda file: file.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(90)), "HDF5 file, as Keras"),
    "gzip": ("w.pth.gz", lambda file: file.write_bytes(gzip.compress(b"x")), "gzip.*\n.*decompress"),
    "LFS": ("w.pth", lambda file: file.write_text("version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
    "ONNX": ("w.onnx", lambda file: file.write_bytes(b"\x08\x07"), "ONNX program"),
}


@pytest.mark.filterwarnings("ignore")  # TorchScript is deprecated
@pytest.mark.parametrize(("name", "write", "message"), OTHER_KINDS.values(), ids=OTHER_KINDS)
def test_the_error_names_the_format_of_another_file(
    tmp_path: Path, name: str, write: Callable[[Path], Any], message: str
) -> None:
    write(tmp_path / name)
    with pytest.raises(ValueError, match=message) as error:
        read_weights(tmp_path / name)
    assert_short(error)


def test_the_error_for_a_folder_suggests_the_file_in_it(tmp_path: Path) -> None:
    save_file(trained(), tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"this is a folder; give the file in it: .*/model\.safetensors"):
        read_weights(tmp_path)


@pytest.mark.parametrize("save", [torch.save, save_file])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, save: Callable[..., None], kept: float) -> None:
    file = tmp_path / ("w.pth" if save is torch.save else "w.safetensors")
    save(trained(), file)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(ValueError, match=rf"{file.name}: cannot be read.*\n.*copy it again") as error:
        read_weights(file)
    assert_short(error)


@pytest.mark.parametrize("text", ["<!DOCTYPE html>", "hello world", "Not Found"])
def test_a_text_file_is_refused(tmp_path: Path, text: str) -> None:
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
    with pytest.raises(ValueError, match=r"w\.pth: it contains an object.*\n.*weights_only=False") as error:
        load_weights(Net(), file)
    assert_short(error)
    assert not trace.exists()
    torch.load(file, weights_only=False)
    assert trace.exists()  # the code runs if the file is trusted


def test_the_error_names_an_object_in_a_file(tmp_path: Path) -> None:
    torch.save({"model": trained(), "args": argparse.Namespace(lr=0.1)}, tmp_path / "w.pth")
    with pytest.raises(
        ValueError, match=r"contains an object, argparse.Namespace.*\n.*save its state_dict alone"
    ) as error:
        read_weights(tmp_path / "w.pth")
    assert_short(error)


@pytest.mark.parametrize("content", [torch.ones(3), [torch.ones(3)], {"epoch": 3}, {}])
def test_a_file_without_named_tensors_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"w\.pth: expected named tensors") as error:
        read_weights(tmp_path / "w.pth")
    assert_short(error)


def test_fill_does_not_change_its_arguments(tmp_path: Path) -> None:
    torch.save({f"net.{name}": tensor for name, tensor in trained(classes=10).items()}, tmp_path / "w.pth")
    weights = read_weights(tmp_path / "w.pth")
    names = list(weights.tensors)
    fill(Net(), weights)
    assert list(weights.tensors) == names


def part(names: list[str]) -> Weights:
    state = trained()
    return Weights({name: state[name] for name in names}, "w.pth")


WHOLE = 4 * 27 + 4 + 4 * 4  # Net without its classifier: a convolution, its bias, BatchNorm's four vectors


def test_a_file_with_less_than_the_minimal_share_is_refused_and_nothing_is_changed() -> None:
    network = Net()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    names = ["bn.weight", "bn.bias", *HEAD]  # the classifier doesn't count
    message = rf"has only {8 / WHOLE:.1%} of the network's weights.*(\n.*)*weights_min_share=0.06"
    with pytest.raises(ValueError, match=message) as error:
        fill(network, part(names))
    assert_short(error)
    assert_equal(network, before)
    assert fill(network, part(names), min_share=0.06).loaded == names


def test_a_partial_load_warns_with_the_loaded_share(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.save(dict(part(["conv.weight"]).tensors), tmp_path / "w.pth")
    load_weights(Net(), tmp_path / "w.pth")
    (warning,) = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert f"{4 * 27 / WHOLE:.1%} of the network's weights" in warning
    assert "5 tensors are not and start at random: conv.bias, bn.weight" in warning


@pytest.mark.parametrize("head", ["other classes", "none"])
def test_a_complete_backbone_causes_no_warning(head: str) -> None:
    state = trained(classes=1000)
    tensors = state if head == "other classes" else {name: state[name] for name in BODY}
    assert fill(Net(), Weights(tensors, "w.pth"), class_names=list("abc")).warnings == []


def test_a_file_of_a_larger_network_causes_a_warning() -> None:
    larger = trained() | {"conv2.weight": torch.ones(4, 3, 3, 3)}
    (warning,) = fill(Net(), Weights(larger, "w.pth")).warnings
    assert f"{WHOLE / (WHOLE + 4 * 27):.1%} of the file's weights are used; 1 tensors are not" in warning
    assert "conv2.weight" in warning


@pytest.mark.parametrize("prefix", ["backbone.", "module.encoder_q.", "image_encoder.trunk."])
def test_any_prefix_before_most_of_the_names_is_removed(prefix: str) -> None:
    state, network = trained(), Net()
    tensors = {prefix + name: state[name] for name in BODY} | {"projection.weight": torch.ones(2)}
    assert fill(network, Weights(tensors, "w.pth")).loaded == BODY
    assert_equal(network, state, BODY)


def test_two_networks_in_a_file_are_refused() -> None:
    tensors = {f"{prefix}.{name}": tensor for prefix in ("student", "teacher") for name, tensor in trained().items()}
    with pytest.raises(ValueError, match=r"with the prefix student\. and with teacher\.; remove one"):
        fill(Net(), Weights(tensors, "w.pth"))


def of_classes(*names: str) -> Weights:
    return Weights(trained(len(names)), "w.pth", list(names))


def test_the_classifiers_rows_are_matched_by_class_name() -> None:
    network, source = Net(), of_classes("owl", "cat", "dog")
    assert fill(network, source, class_names=["cat", "dog", "owl"]).warnings == []
    assert torch.equal(network.fc.weight, source.tensors["fc.weight"][[1, 2, 0]])
    assert torch.equal(network.fc.bias, source.tensors["fc.bias"][[1, 2, 0]])


def test_rows_of_classes_that_the_file_does_not_have_are_not_loaded_and_listed() -> None:
    network, source = Net(), of_classes("owl", "cat", "dog")
    initial = network.fc.weight[1].clone()
    (warning,) = fill(network, source, class_names=["dog", "wolf", "owl"]).warnings
    assert "2 of 3 rows are loaded" in warning
    assert "not loaded: wolf" in warning
    assert torch.equal(
        network.fc.weight, torch.stack([source.tensors["fc.weight"][2], initial, source.tensors["fc.weight"][0]])
    )


def test_a_classifier_without_a_common_class_is_not_loaded() -> None:
    network, source = Net(), of_classes("a", "b", "c")
    report = fill(network, source, class_names=["cat", "dog", "owl"])
    assert report.not_loaded == HEAD
    assert "for other classes: a, b, c. 0 of 3 rows" in report.warnings[0]


def test_a_classifier_without_class_names_is_loaded_with_a_warning() -> None:
    network, state = Net(), trained()
    (warning,) = fill(network, Weights(state, "w.pth"), class_names=["cat", "dog", "owl"]).warnings
    assert "no class names to compare with; the classes of this data are cat, dog, owl" in warning
    assert_equal(network, state)


def test_a_checkpoint_of_this_project_has_class_names(tmp_path: Path) -> None:
    torch.save({"state_dict": trained(), "config": {"class_names": ["a", "b", "c"]}}, tmp_path / "best.ckpt")
    assert read_weights(tmp_path / "best.ckpt").class_names == ["a", "b", "c"]
