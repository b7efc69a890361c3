"""The figures of a run against scikit-learn on the predictions that it writes, where it is easy to go wrong too."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import SMALL, make_folder
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from sklearn import metrics as sk
from tasks import Data, make_task, make_trainer
from torch import Tensor
from torchmetrics.classification import MultilabelRecall
from torchvision.transforms.v2 import functional as F
from two_ranks import on_two_ranks, two_devices

from fovea.callbacks.ema import EMA
from fovea.config.resolvers import CONF
from fovea.data.index import Index
from fovea.data.loading.batch_samplers import EvalBatchSampler
from fovea.data.loading.dataset import Batch
from fovea.load_run import load_run
from fovea.losses.bce import BinaryCrossEntropy
from fovea.results.collect import compare, gathered

Invoke = Callable[..., Any]
Runs = Callable[[], list[Path]]
UNDEFINED: dict[str, Any] = {"zero_division": np.nan}


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open() as lines:
        return list(csv.DictReader(lines))


def evaluated(invoke: Invoke, run: Path, *words: str) -> tuple[dict[str, float], list[dict[str, str]]]:
    """The figures, and the table of classes."""
    shutil.rmtree(run / "evaluate", ignore_errors=True)
    assert invoke("evaluate", f"run={run}", "report=false", *words).code == 0
    (file,) = run.glob("evaluate/*/results.json")
    return json.loads(file.read_text())["test"], rows_of(file.parent / "per_class.csv")


def predicted(invoke: Invoke, run: Path, source: Path, output: Path, names: list[str]) -> dict[str, np.ndarray]:
    """{path: (K,) probabilities}."""
    assert invoke("predict", f"run={run}", f"source={source}", f"output={output}").code == 0
    return {row["path"]: np.array([float(row[f"p({name})"]) for name in names]) for row in rows_of(output)}


def column(table: list[dict[str, str]], name: str) -> list[float]:
    return [float(row[name] or "nan") for row in table]


def no_nan_in(run: Path, *splits: str) -> None:
    """In what was logged in the training and is left of it."""
    for row in rows_of(run / "metrics.csv"):
        for name, value in row.items():
            if value and name.startswith(splits):
                assert np.isfinite(float(value)), name
    assert np.isfinite(list(json.loads((run / "results.json").read_text())["test"].values())).all()


def check_multiclass(invoke: Invoke, run: Path, test: Path, names: list[str], output: Path) -> None:
    """All figures of the test split, by scikit-learn on the predictions."""
    figures, table = evaluated(invoke, run)
    found = predicted(invoke, run, test, output, names)
    truth = np.array([names.index(Path(path).parent.name) for path in found])
    probabilities, places = np.stack(list(found.values())), range(len(names))
    guess = probabilities.argmax(1)
    assert figures == {
        "loss": pytest.approx(sk.log_loss(truth, probabilities, labels=places), abs=1e-5),
        "accuracy": pytest.approx(sk.accuracy_score(truth, guess), abs=1e-6),
        "f1": pytest.approx(sk.f1_score(truth, guess, average="macro"), abs=1e-6),
    }
    scores = sk.precision_recall_fscore_support(truth, guess, labels=places, **UNDEFINED)
    for name, expected in zip(("precision", "recall", "f1", "images"), scores, strict=True):  # nan: an empty cell
        np.testing.assert_allclose(column(table, name), expected, atol=1e-6)


@pytest.mark.slow
def test_all_figures_of_a_run_are_scikit_learns(invoke: Invoke, trained: Path, folder: Path, tmp_path: Path) -> None:
    check_multiclass(invoke, trained, folder / "test", ["cat", "dog", "owl"], tmp_path / "p.csv")


def test_two_evaluations_of_a_run_have_a_folder_each(invoke: Invoke, trained: Path) -> None:
    for _ in range(2):
        assert invoke("evaluate", f"run={trained}", "report=false").code == 0
    assert len([*trained.glob("evaluate/*")]) == 2


@pytest.mark.slow
def test_test_time_augmentation_is_the_same_in_evaluate_and_predict_and_is_a_plain_mean(
    invoke: Invoke, trained: Path, trained_once: tuple[Path, Path], tmp_path: Path
) -> None:
    """The last batch has 3 images; the views are cut out of the center square of 18 pixels."""
    words = ("tta=flip_five_crop", "data.batch_size=4")
    assert invoke("evaluate", f"run={trained}", "report=true", *words).code == 0
    (file,) = trained.glob("evaluate/*/results.json")
    assert json.loads(file.read_text())["tta"] == "flip_five_crop"
    source, names, output = trained_once[1] / "test", ["cat", "dog", "owl"], tmp_path / "p.csv"
    assert invoke("predict", f"run={trained}", f"source={source}", f"output={output}", *words).code == 0
    run = load_run(trained)
    for table in (file.parent / "predictions.csv", output):
        rows = rows_of(table)
        assert len(rows) == 15
        for row in rows:
            square = center_square(Path(trained_once[1], row["path"]), 18)
            views = [square[:, y : y + 16, x : x + 16] for y, x in ((0, 0), (0, 2), (2, 0), (2, 2), (1, 1))]
            with torch.no_grad():
                logits = run.task(torch.stack([*views, *(view.flip(-1) for view in views)]))
            expected = logits.softmax(1).mean(0)
            found = [float(row[f"p({name})"]) for name in names]
            np.testing.assert_allclose(found, expected, atol=2e-5)


def center_square(file: Path, side: int) -> Tensor:
    pixels = torch.from_numpy(np.array(Image.open(file).convert("RGB"))).permute(2, 0, 1)
    return F.center_crop(F.resize(pixels, [side], antialias=True), [side])


@pytest.mark.slow
def test_all_images_of_another_folder_are_tested_even_of_one_class(
    invoke: Invoke, trained: Path, tmp_path: Path
) -> None:
    for root in (make_folder(tmp_path / "flat", ("dog",), 4), make_folder(tmp_path / "split" / "Testing", ("dog",), 4)):
        shutil.rmtree(trained / "evaluate", ignore_errors=True)
        data = root.parent if root.name == "Testing" else root
        code, out, err = invoke("evaluate", f"run={trained}", "data=folder", f"data.root={data}", "report=false")
        assert code == 0, err
        (file,) = trained.glob("evaluate/*/results.json")
        content = json.loads(file.read_text())
        assert (content["split"], content["images"]) == (("test" if data != root else "all"), 4)
        assert ("on 4 test images" if data != root else "on 4 images, all of the data") in out


@pytest.mark.slow
def test_a_runs_own_data_are_divided_as_for_its_training_and_known_in_another_place(
    invoke: Invoke, runs: Runs, tmp_path: Path
) -> None:
    data = make_folder(tmp_path / "flat", ("a", "b"), 20)
    split = ("data.val_fraction=0.2", "data.test_fraction=0.3", "data.split_seed=5")
    assert invoke("train", "data=folder", f"data.root={data}", *split, *SMALL).code == 0
    (run,) = runs()
    assert evaluated(invoke, run)[0] == json.loads((run / "results.json").read_text())["test"]
    moved = shutil.move(data, tmp_path / "moved")
    code, out, err = invoke("evaluate", f"run={run}", "data=folder", f"data.root={moved}")
    assert code == 0, err
    assert "on 40 images" in out
    counted = f"trained on 20 of the 40 tested images; to test the images that it was not trained on: {split[0]}"
    assert counted in " ".join(out.split())


@pytest.mark.slow
def test_a_class_that_a_split_lacks_leaves_the_figures_defined(
    invoke: Invoke, runs: Runs, folder: Path, tmp_path: Path
) -> None:
    """Neither val nor test has a dog; batches of four hold one class each, but one."""
    for split in ("val", "test"):
        shutil.rmtree(folder / split / "dog")
    words = ("data=folder", f"data.root={folder}", *SMALL, "data.batch_size=4", "monitor=val/f1")
    assert invoke("train", *words).code == 0
    (run,) = runs()
    no_nan_in(run, "val/", "train/")
    check_multiclass(invoke, run, folder / "test", ["cat", "dog", "owl"], tmp_path / "p.csv")


@pytest.mark.slow
def test_two_classes_and_one_image_are_enough(invoke: Invoke, runs: Runs, tmp_path: Path) -> None:
    root = tmp_path / "two"
    for split, images in (("train", 6), ("val", 1), ("test", 1)):
        make_folder(root / split, ("a", "b"), images)
    for split in ("val", "test"):
        shutil.rmtree(root / split / "a")
    words = ("data=folder", f"data.root={root}", *SMALL, "callbacks=[default,ema]", "monitor=val/ema_f1")
    assert invoke("train", *words).code == 0
    (run,) = runs()
    no_nan_in(run, "val/", "train/")
    figures, table = evaluated(invoke, run)
    found = predicted(invoke, run, root / "test", tmp_path / "p.csv", ["a", "b"])
    ((_, probabilities),) = found.items()
    right = float(probabilities[1] > 0.5)  # these are the averaged weights'
    assert (figures["ema_accuracy"], figures["ema_f1"]) == (right, right)
    assert figures["ema_loss"] == pytest.approx(-np.log(probabilities[1]), rel=1e-5)
    assert column(table, "images") == [0, 1]
    np.testing.assert_equal(column(table, "ema_recall"), [np.nan, right])


def multilabel_run(
    invoke: Invoke, runs: Runs, folder: Path, label: Callable[[Path, str], tuple[int, int, int]]
) -> Path:
    """Trained on the folder's images with three labels, (path, split) -> 1, 0 or -1 each."""
    with (folder / "labels.csv").open("w") as out:
        out.write("path,split,dark,bright,never\n")
        for file in sorted(folder.rglob("*.png")):
            split = file.relative_to(folder).parts[0]
            out.write(f"{file.relative_to(folder)},{split},{','.join(map(str, label(file, split)))}\n")
    code, _, err = invoke("train", "data=multilabel_csv", f"data.root={folder}", *SMALL)
    assert code == 0, err
    (run,) = runs()
    no_nan_in(run, "train/")
    return run


def test_all_figures_of_a_multilabel_run_are_scikit_learns_over_what_is_known_or_undefined_where_nothing_is(
    invoke: Invoke, runs: Runs, folder: Path, tmp_path: Path
) -> None:
    """`never` has no positive; of images called 1 nothing is known, of those called 2 not whether they are dark.

    Nothing at all is known of val.
    """

    def label(file: Path, split: str) -> tuple[int, int, int]:
        if file.stem == "1" or split == "val":
            return -1, -1, -1
        return -1 if file.stem == "2" else int(file.parent.name == "cat"), int(file.parent.name != "cat"), 0

    run, names = multilabel_run(invoke, runs, folder, label), ["dark", "bright", "never"]
    figures, table = evaluated(invoke, run)
    found = predicted(invoke, run, folder / "test", tmp_path / "p.csv", names)
    truth = np.array([label(Path(path), "test") for path in found])
    probabilities = np.stack(list(found.values()))
    classes = [(t[t >= 0], p[t >= 0]) for t, p in zip(truth.T, probabilities.T, strict=True)]
    everything = [np.concatenate(part) for part in zip(*classes, strict=True)]
    aps = [sk.average_precision_score(*one) for one in classes[:2]]
    f1s = [sk.f1_score(t, p > 0.5, **UNDEFINED) for t, p in classes]
    assert figures == {
        "loss": pytest.approx(sk.log_loss(*everything), abs=1e-5),
        "mAP": pytest.approx(np.mean(aps), abs=1e-6),
        "f1_micro": pytest.approx(sk.f1_score(everything[0], everything[1] > 0.5, **UNDEFINED), abs=1e-6),
        "f1_macro": pytest.approx(np.nanmean(f1s), abs=1e-6),
    }
    np.testing.assert_allclose(column(table, "average_precision"), [*aps, np.nan], atol=1e-6)
    np.testing.assert_allclose(column(table, "f1"), f1s, atol=1e-6)
    precision, recall = (
        [score(t, p > 0.5, **UNDEFINED) for t, p in classes] for score in (sk.precision_score, sk.recall_score)
    )
    np.testing.assert_allclose(column(table, "precision"), precision, atol=1e-6)
    np.testing.assert_allclose(column(table, "recall"), recall, atol=1e-6)
    assert column(table, "images") == (truth == 1).sum(0).tolist()
    validated = [row for row in rows_of(run / "metrics.csv") if row["val/mAP"]]
    assert validated
    for row in validated:
        assert np.isnan([float(value) for name, value in row.items() if name.startswith("val/")]).all()
    assert json.loads((run / "results.json").read_text())["best"]["value"] is None
    log = " ".join((run / "train.log").read_text().split())
    assert "undefined with the labels of these images (nan; null in results.json): val/f1_macro, val/f1_micro, " in log
    assert "val/mAP is the monitor: while it is undefined" in log
    assert "test/mAP is the mean over 2 of 3 classes" in log


# Two ranks against one, through Lightning.

CLASSES = 6  # more than five, so that there is top5


def images(n: int) -> Tensor:
    return torch.randn(n, 3, 4, 4, generator=torch.Generator().manual_seed(n))


def targets(task: str, n: int) -> Tensor:
    """Of several labels a third is unknown, and all of the last image's."""
    generator = torch.Generator().manual_seed(n)
    if task == "multiclass":
        return torch.randint(0, CLASSES - 1, (n,), generator=generator)
    known = torch.randint(-1, 2, (n, CLASSES), generator=generator).float()
    known[-1] = -1
    return known


def share(task: str, n: int, batch_size: int, rank: int, ranks: int) -> list[Batch]:
    batches = []
    for keys in EvalBatchSampler(n, batch_size, rank, ranks):
        rows = torch.tensor([index for _, index, _ in keys], dtype=torch.long)
        batches.append(Batch(images(n)[rows], targets(task, n)[rows], rows, rows[:0]))
    return batches


def measured(task: str, n: int, batch_size: int, rank: int = 0, ranks: int = 1) -> dict[str, Any]:
    """The test figures of the network and of an average, and what is said of each class."""
    config = OmegaConf.merge(OmegaConf.load(CONF / "metrics" / f"{task}.yaml"), {"num_classes": CLASSES})
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, CLASSES))
    parts = {name: instantiate(config[name]) for name in ("metrics", "per_class_metrics")}
    weighted = torch.nn.CrossEntropyLoss(torch.linspace(0.3, 2.5, CLASSES), label_smoothing=0.1)
    loss = weighted if task == "multiclass" else BinaryCrossEntropy()
    module = make_task(task=task, network=network, loss=loss, **parts)
    ema = EMA()
    ema.loaded = {name: tensor / 2 for name, tensor in network.state_dict().items()}
    trainer = make_trainer(ema, **(two_devices() if ranks > 1 else {}))
    trainer.test(module, datamodule=Data([], share(task, n, batch_size, rank, ranks)), verbose=False)
    figures = {name: value.item() for name, value in trainer.callback_metrics.items()}
    index = Index([f"{i}.png" for i in range(n)], targets(task, n))
    data = SimpleNamespace(root=None, splits={"test": index}, task=task, class_names=[str(k) for k in range(CLASSES)])
    kept = gathered(data, "test", module.tested)  # type: ignore[arg-type]
    assert kept.paths == list(index.paths)
    assert torch.equal(kept.labels, index.targets)
    if rank == 0 and n == 3:  # rank 0 alone does this
        counts = {"present": [1] * CLASSES, "absent": [1] * CLASSES}
        assert set(compare(module, kept, counts)["majority"]) == set(parts["metrics"])
    per_class = {name: value.tolist() for name, value in module.per_class.items()}
    return figures | per_class | {"probabilities": kept.probabilities.tolist()}


FEW = [("multiclass", 1, 4), ("multiclass", 17, 4), ("multilabel", 1, 4), ("multilabel", 3, 4)]
ALL = [
    (task, n, size) for task in ("multiclass", "multilabel") for n, size in ((1, 4), (2, 4), (3, 4), (17, 4), (17, 6))
]


@pytest.mark.parametrize("cases", [FEW, pytest.param(ALL, marks=pytest.mark.slow)], ids=["few", "all"])
def test_two_ranks_give_the_figures_of_one_whatever_the_sizes(
    tmp_path: Path, cases: list[tuple[str, int, int]]
) -> None:
    ranks = on_two_ranks(lambda rank: [measured(*case, rank=rank, ranks=2) for case in cases], tmp_path)
    for n, case in enumerate(cases):
        alone = measured(*case)
        assert {"test/loss", "test/ema_loss"} <= set(alone)
        for rank in ranks:
            assert rank[n].keys() == alone.keys()
            for name, value in alone.items():
                np.testing.assert_allclose(rank[n][name], value, atol=1e-6, err_msg=f"{case} {name}")
                nothing_known = case[:2] == ("multilabel", 1)
                assert not name.endswith("loss") or np.isfinite(value) != nothing_known, (case, name)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_the_size_of_the_batches_changes_no_figure(task: str) -> None:
    first, second = measured(task, 17, 17), measured(task, 17, 4)
    for name, value in first.items():
        np.testing.assert_allclose(second[name], value, atol=1e-6, err_msg=name)


def test_a_figure_of_the_only_class_has_a_place_for_it() -> None:
    """torchmetrics gives a number in place of (1,)."""
    some = Batch(images(4), torch.ones(4, 1), torch.arange(4), torch.tensor([], dtype=torch.long))
    recall = MultilabelRecall(1, average="none", validate_args=False)
    one = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 1))
    options = {"task": "multilabel", "network": one, "loss": torch.nn.BCEWithLogitsLoss(), "metrics": {}}
    module = make_task(per_class_metrics={"recall": recall}, **options)
    make_trainer().test(module, datamodule=Data([], [some]), verbose=False)
    assert module.per_class["recall"].shape == (1,)
