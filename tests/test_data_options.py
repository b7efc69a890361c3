"""data.store, data.resident, the samplers and the listing's cache, through the command line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import SMALL, some

from fovea.data.scan import scan

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
def test_a_store_and_its_files_train_to_identical_weights(
    invoke: Invoke, runs: Runs, folder: Path, tmp_path: Path
) -> None:
    """Unchanged files and raw pixels of full size; labels, names and the split-off images are stored too."""
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
def test_resident_images_and_files_train_to_identical_weights(invoke: Invoke, runs: Runs, folder: Path) -> None:
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
def test_a_resumed_run_with_another_sampler_equals_an_uninterrupted_one(
    invoke: Invoke, runs: Runs, folder: Path, sampler: str
) -> None:
    data = ("data=folder", f"data.root={folder}", *SMALL, "scheduler=constant", *f"sampler={sampler}".split())
    assert invoke("train", *data)[0] == 0
    (whole,) = runs()
    assert invoke("train", *data, "trainer.max_steps=2")[0] == 0
    (stopped,) = set(runs()) - {whole}
    assert invoke("train", f"resume={stopped}", "trainer.max_steps=-1")[0] == 0
    assert same_weights([whole, stopped])
    assert invoke("evaluate", f"run={whole}", "data=folder", f"data.root={folder}")[0] == 0


@pytest.mark.slow
def test_a_listing_is_cached_and_a_changed_folder_is_noticed(
    invoke: Invoke, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "CLOCK_TICK", 0)  # else the listing of a folder just written is not cached
    data = ("data=folder", f"data.root={folder}", *SMALL, "trainer.max_steps=1")
    assert invoke("train", *data)[0] == 0
    code, out, err = invoke("train", *data)
    assert code == 0
    assert "listing read from the cache" in out + err
    (folder / "train" / "cat" / "0.png").rename(folder / "train" / "dog" / "new.png")
    code, out, err = invoke("train", *data)
    assert code == 0
    assert "listed again" in out + err


@pytest.mark.parametrize(
    ("words", "message"),
    some(
        [
            ("data.resident=true data.decode=cuda", "data.decode=cuda has no effect"),
            ("data.decode=cuda", "set data.decode=cpu"),
            ("data.decode=gpu", "data.decode=gpu"),
            ("data.store=/nowhere", "would not be read, as data.store=/nowhere is"),
            ("sampler=weighted", "power"),
            ("sampler=balanced", "class_balanced"),
        ]
    ),
)
def test_invalid_options_give_an_error_of_few_lines(invoke: Invoke, folder: Path, words: str, message: str) -> None:
    code, _, err = invoke("train", "data=folder", f"data.root={folder}", *SMALL, "trainer=cpu", *words.split())
    assert code == 2
    assert message in err
    assert len(err.splitlines()) <= 4


@pytest.mark.slow
def test_a_data_root_that_a_store_would_hide_is_an_error(
    invoke: Invoke, runs: Runs, folder: Path, tmp_path: Path
) -> None:
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
