"""Where pixels come from (data.store, data.resident) and in what order, through the command line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import SMALL, some

from fovea.data.scan.scan import scan

Invoke = Callable[..., tuple[int, str, str]]
Runs = Callable[[], list[Path]]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]


def fingerprint(run: Path) -> str:
    return json.loads((run / "provenance.json").read_text())["starts"][0]["data_fingerprint"]["images"]


def same_weights(runs: list[Path]) -> bool:
    first, *others = map(weights, runs)
    return all(torch.equal(first[key], other[key]) for other in others for key in first)


@pytest.mark.slow
def test_a_store_trains_as_its_files_do_bit_for_bit(invoke: Invoke, runs: Runs, folder: Path, tmp_path: Path) -> None:
    """Files as they are, and raw pixels that weren't shrunk; labels, names and the carved split come along."""
    data = ("data=folder", f"data.root={folder / 'train'}", "data.val_fraction=0.25")
    trained = {}
    for name, options in {"files": ("format=files",), "raw": ("format=raw",)}.items():
        assert invoke("../scripts/pack", *data, f"output={tmp_path / name}", *options, "num_workers=2")[0] == 0
        before = set(runs())
        assert invoke("train", "data=folder", f"data.store={tmp_path / name}", *SMALL)[0] == 0
        (trained[name],) = set(runs()) - before
    before = set(runs())
    assert invoke("train", *data, *SMALL, "data.num_workers=2")[0] == 0
    (trained["nothing"],) = set(runs()) - before
    assert same_weights(list(trained.values()))
    assert len({fingerprint(run) for run in trained.values()}) == 1
    code, out, err = invoke("evaluate", f"run={trained['raw']}")
    assert code == 0, err
    assert "accuracy" in out + err


@pytest.mark.slow
def test_resident_images_train_as_files_do_bit_for_bit(invoke: Invoke, runs: Runs, folder: Path) -> None:
    data = ("data=folder", f"data.root={folder}", *SMALL, "augment=crop")
    assert invoke("train", *data)[0] == 0
    assert invoke("train", *data, "data.resident=true")[0] == 0
    assert len(runs()) == 2
    assert same_weights(runs())


@pytest.mark.slow
@pytest.mark.parametrize(
    "sampler",
    [
        "class_balanced",
        pytest.param("repeated_augmentation", marks=pytest.mark.slow),
        pytest.param("weighted data.sampler.power=0.5", marks=pytest.mark.slow),
    ],
)
def test_a_run_with_another_sampler_stopped_and_resumed_equals_one_that_was_not(
    invoke: Invoke, runs: Runs, folder: Path, sampler: str
) -> None:
    data = ("data=folder", f"data.root={folder}", *SMALL, *f"sampler={sampler}".split())
    assert invoke("train", *data)[0] == 0
    (whole,) = runs()
    assert invoke("train", *data, "trainer.max_steps=2")[0] == 0
    (stopped,) = set(runs()) - {whole}
    assert invoke("train", f"resume={stopped}", "trainer.max_steps=-1")[0] == 0
    assert same_weights([whole, stopped])
    assert invoke("evaluate", f"run={whole}", "data=folder", f"data.root={folder}")[0] == 0


@pytest.mark.slow
def test_a_listing_is_kept_and_a_changed_folder_is_noticed(
    invoke: Invoke, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "CLOCK_TICK", 0)  # else it isn't kept of a folder that was only just written
    data = ("data=folder", f"data.root={folder}", *SMALL, "trainer.max_steps=1")
    assert invoke("train", *data)[0] == 0
    code, out, err = invoke("train", *data)
    assert code == 0
    assert "listing taken from" in out + err
    (folder / "train" / "cat" / "0.png").rename(folder / "train" / "dog" / "new.png")
    code, out, err = invoke("train", *data)
    assert code == 0
    assert "listed again" in out + err


@pytest.mark.parametrize(
    ("words", "said"),
    some(
        [
            ("data.resident=true data.decode=cuda", "data.decode=cuda has no effect"),
            ("data.decode=cuda", "take data.decode=cpu"),
            ("data.decode=gpu", "data.decode=gpu"),
            ("data.store=/nowhere", "would not be read, as data.store=/nowhere is"),
            ("sampler=weighted", "power"),
            ("sampler=balanced", "class_balanced"),
        ]
    ),
)
def test_what_cannot_be_is_refused_in_a_few_lines(invoke: Invoke, folder: Path, words: str, said: str) -> None:
    code, _, err = invoke("train", "data=folder", f"data.root={folder}", *SMALL, "trainer=cpu", *words.split())
    assert code == 2
    assert said in err
    assert len(err.splitlines()) <= 4


@pytest.mark.slow
def test_a_folder_that_would_not_be_read_is_refused(invoke: Invoke, runs: Runs, folder: Path, tmp_path: Path) -> None:
    data = ("data=folder", f"data.root={folder}")
    assert invoke("../scripts/pack", *data, f"output={tmp_path / 'store'}", "num_workers=0")[0] == 0
    assert invoke("train", "data=folder", f"data.store={tmp_path / 'store'}", *SMALL)[0] == 0
    (run,) = runs()
    code, _, err = invoke("evaluate", f"run={run}", f"data.root={folder}")
    assert code == 2
    assert "would not be read" in err
    assert "data.store=null" in err
    assert invoke("evaluate", f"run={run}", f"data.root={folder}", "data.store=null")[0] == 0
    assert invoke("evaluate", f"run={run}", *data)[0] == 0
