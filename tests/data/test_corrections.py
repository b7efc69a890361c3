"""Corrections change the labels of a source's images, whatever the source, and no file."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import SMALL, make_folder

from fovea.data.corrections import correct
from fovea.data.index import Index, Splits
from fovea.data.loading.datamodule import ImageDataModule
from fovea.data.pixels.augment import Augment
from fovea.data.pixels.crop import CenterCrop
from fovea.data.sources.coco import read_coco
from fovea.data.sources.folder import read_folder
from fovea.data.sources.multilabel_csv import read_multilabel_csv
from fovea.data.sources.singlelabel_csv import read_csv
from fovea.data.store.encode import Format
from fovea.data.store.pack import Source, pack

Invoke = Callable[..., Any]
AUGMENT = {"train": Augment(CenterCrop(8, 8)), "eval": Augment(CenterCrop(8, 8))}


def written(folder: Path, *lines: str, header: str = "path,correction") -> str:
    file = folder / "corrections.csv"
    file.write_text("\n".join([header, *lines, ""]), "utf-8", "surrogateescape")
    return str(file)


def corrected(read: Callable[..., Splits], root: Path, corrections: str | None, **options: Any) -> ImageDataModule:
    return ImageDataModule(read, str(root), AUGMENT, 8, 2, corrections=corrections, **options)


def labels(data: ImageDataModule, split: str = "train") -> dict[str, Any]:
    """{path below the root: the class name, or the marks}"""
    index = data.splits[split]
    targets = index.targets.tolist()
    values = targets if data.task == "multilabel" else [data.class_names[label] for label in targets]
    return {path.removeprefix(f"{data.root}/"): value for path, value in zip(index.paths, values, strict=True)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for seed, (split, images) in enumerate({"train": 4, "val": 3, "test": 2}.items()):
        make_folder(tmp_path / "mes données" / split, images=images, seed=seed)
    return tmp_path / "mes données"


def test_a_label_is_changed_or_an_image_left_out_in_any_split(root: Path, tmp_path: Path) -> None:
    plain = corrected(read_folder, root, None)
    data = corrected(
        read_folder,
        root,
        written(
            tmp_path, "train/cat/1.png,dog", f"{root}/val/dog/0.png,owl", "test/owl/1.png,drop", "train/cat/2.png,"
        ),
    )
    assert labels(data) == labels(plain) | {"train/cat/1.png": "dog"}
    assert labels(data, "val") == labels(plain, "val") | {"val/dog/0.png": "owl"}
    rest = labels(plain, "test")
    del rest["test/owl/1.png"]
    assert labels(data, "test") == rest
    assert {key: data.corrected[key] for key in ("labels", "dropped")} == {"labels": 2, "dropped": 1}


def test_the_files_of_the_data_are_not_touched(root: Path, tmp_path: Path) -> None:
    def state() -> dict[Path, int]:
        return {file: file.stat().st_mtime_ns for file in root.rglob("*")}

    before = state()
    corrected(read_folder, root, written(tmp_path, "train/cat/1.png,dog", "train/cat/0.png,drop"))
    assert state() == before


def test_images_stay_in_the_split_that_they_had_without_corrections(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "flat", images=20)
    plain = corrected(read_folder, root, None, val_fraction=0.2, test_fraction=0.2)
    data = corrected(
        read_folder, root, written(tmp_path, "cat/1.png,dog", "owl/3.png,drop"), val_fraction=0.2, test_fraction=0.2
    )
    for split in ("train", "val", "test"):
        assert set(labels(plain, split)) - set(labels(data, split)) <= {"owl/3.png"}


@pytest.mark.parametrize("mark", [";", "\t"])
def test_a_table_as_a_spreadsheet_saves_it_is_read(root: Path, tmp_path: Path, mark: str) -> None:
    header = mark.join(["Path", "split", "label", "suggested", "score", "Correction"])
    rows = [mark.join(row) for row in (["train/cat/1.png", "train", "cat", "dog", "0,9", "dog"], [""] * 6)]
    assert (
        labels(corrected(read_folder, root, written(tmp_path, *rows, header=f"\ufeff{header}")))["train/cat/1.png"]
        == "dog"
    )


def test_rows_of_a_csv_are_corrected_by_the_path_in_it(root: Path, tmp_path: Path) -> None:
    (root / "labels.csv").write_text(
        "path,label\n" + "".join(f"train/{c}/{n}.png,{c}\n" for c in ("cat", "dog") for n in range(4))
    )
    file = written(tmp_path, "train/cat/1.png,dog")
    assert labels(corrected(read_csv, root, file, val_fraction=0.2), "val") | labels(
        corrected(read_csv, root, file, val_fraction=0.2)
    ) == {f"train/{c}/{n}.png": c for c in ("cat", "dog") for n in range(4)} | {"train/cat/1.png": "dog"}


def test_a_correction_names_all_labels_of_an_image_but_unknown_ones_stay_unknown(root: Path, tmp_path: Path) -> None:
    rows = ["1,0,-1", "1,1,0", "0,0,1", "-1,1,0", "1,0,0"]
    images = [f"train/cat/{n}.png" for n in range(4)] + ["val/cat/0.png"]
    splits = ["train"] * 4 + ["val"]
    table = "path,split,x,y,z\n" + "".join(f"{i},{s},{row}\n" for i, s, row in zip(images, splits, rows, strict=True))
    (root / "labels.csv").write_text(table)
    file = written(tmp_path, f"{images[0]},y", f"{images[1]},none", f"{images[2]},x;y", f"{images[3]},drop")
    assert labels(corrected(read_multilabel_csv, root, file)) == {
        images[0]: [0, 1, -1],
        images[1]: [0, 0, 0],
        images[2]: [1, 1, 0],
    }


def test_an_image_of_coco_is_corrected(root: Path, tmp_path: Path) -> None:
    content = {
        "images": [{"id": n, "file_name": f"{n}.png"} for n in range(3)],
        "annotations": [{"image_id": n, "category_id": 1 + n % 2} for n in range(3)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "traffic light"}],
    }
    for split in ("train", "val"):
        (root / f"{split}.json").write_text(json.dumps(content))

    def read(root: Path) -> Splits:
        return read_coco(root, "train/cat", "val/cat", "", "train.json", "val.json")

    file = written(tmp_path, "train/cat/0.png,cat;traffic light", f"{root}/val/cat/1.png,cat")
    data = corrected(read, root, file)
    assert labels(data) == {"train/cat/0.png": [1, 1], "train/cat/1.png": [0, 1], "train/cat/2.png": [1, 0]}
    assert labels(data, "val")["val/cat/1.png"] == [1, 0]


@pytest.mark.parametrize("absolute", [True, False])
def test_an_image_of_a_store_is_corrected_by_its_name_or_its_path_below_the_root(
    root: Path, tmp_path: Path, absolute: bool
) -> None:
    plain = corrected(read_folder, root, None)
    source = Source("multiclass", plain.class_names, plain.splits, str(root))
    pack(source, Format("files"), tmp_path / "store", 0, lambda *_: None)
    place = f"{root}/" if absolute else ""
    file = written(tmp_path, f"{place}train/cat/1.png,dog", f"{place}val/cat/0.png,drop")
    from_store = corrected(read_folder, root, file, store=str(tmp_path / "store"))
    from_files = corrected(read_folder, root, file)
    assert labels(from_store) == labels(from_files)
    assert from_store.fingerprint()["images"] == from_files.fingerprint()["images"] != plain.fingerprint()["images"]
    rows = from_store.splits["val"].rows.tolist()
    assert rows == list(range(len(plain.splits["train"]) + 1, len(plain.splits["train"]) + 9))


def test_a_test_split_that_is_val_stays_val(root: Path, tmp_path: Path) -> None:
    shutil.rmtree(root / "test")
    data = corrected(read_folder, root, written(tmp_path, "val/cat/0.png,dog", "val/cat/1.png,drop"))
    assert data.splits["test"] is data.splits["val"]
    assert data.corrected["labels"] == data.corrected["dropped"] == 1


def test_a_class_of_the_name_of_a_word_is_meant_unless_the_word_is_in_brackets(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_folder(tmp_path / "data" / "train", ("drop", "rain"), 3).parent
    make_folder(root / "val", ("drop", "rain"), 3)
    file = written(tmp_path, "train/rain/0.png,drop", "train/rain/1.png,<drop>")
    data = corrected(read_folder, root, file)
    assert labels(data)["train/rain/0.png"] == "drop"
    assert "train/rain/1.png" not in labels(data)
    assert "'drop' is read as the class of this name; <drop> leaves an image out" in caplog.text


def index(*paths: str, task: str = "multiclass") -> dict[str, Index]:
    targets = torch.zeros(len(paths), dtype=torch.long)
    return {"train": Index(paths, targets if task == "multiclass" else targets[:, None].repeat(1, 3))}


NAMES = ("cat", "dog", "traffic light")


@pytest.mark.parametrize(
    ("lines", "task", "message"),
    [
        (
            ["a.png,catt"],
            "multiclass",
            r"corrections.csv, line 2: the correction 'catt' names no class; is 'catt' 'cat'\?",
        ),
        (["a.png,DOG"], "multiclass", r"is 'DOG' 'dog'\?\nWrite a class \(cat, dog, traffic light\); drop to leave"),
        (["a.png,none"], "multiclass", "'none' names no class"),
        (["a.png,cat;dog"], "multiclass", "'cat;dog' names no class"),
        (
            ["b.png,dog", "a.png,cat;bird"],
            "multilabel",
            r"line 3: .*'cat;bird' names no class\n.* joined by ;.* none for",
        ),
        (["a.png,;"], "multilabel", "';' names no class"),
        (["a.png,drop;cat"], "multilabel", "'drop;cat' names no class"),
        (
            ["a.png,dog", "x.png,dog", "y.png,drop", "z.png,"],
            "multiclass",
            r"2 of 3 .* not in the data, first in line 3: 'x.png'",
        ),
        (["a.png,dog", "b.png,dog", "./a.png,drop"], "multiclass", "lines 2 and 4 correct one image differently"),
        ([",dog"], "multiclass", "line 2: the correction 'dog' has no path"),
        (["a.png,dog,x"], "multiclass", "line 2: 3 fields; the header has 2"),
    ],
)
def test_a_wrong_row_is_an_error_that_names_it(tmp_path: Path, lines: list[str], task: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        correct(index("a.png", "b.png", task=task), task, NAMES, written(tmp_path, *lines), None)


@pytest.mark.parametrize("header", ["path,label", "image,correction", "path,correction,correction", "a.png,cat"])
def test_a_table_without_the_columns_is_an_error(tmp_path: Path, header: str) -> None:
    with pytest.raises(ValueError, match=r"has (no|several) columns? .*\nIt needs the columns path and correction"):
        correct(index("a.png"), "multiclass", NAMES, written(tmp_path, header=header), None)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="data.corrections=.*: there is no such file"):
        correct(index("a.png"), "multiclass", NAMES, str(tmp_path / "none.csv"), None)


def test_two_rows_that_say_the_same_are_no_error(tmp_path: Path) -> None:
    file = written(tmp_path, "a.png,dog", "./a.png,dog", "a.png,")
    assert correct(index("a.png", "b.png"), "multiclass", NAMES, file, None).splits["train"].targets.tolist() == [1, 0]


def test_a_new_label_in_the_column_label_is_warned_about(tmp_path: Path) -> None:
    rows = ["a.png,dog,", "b.png,cat,", "c.png,cat,dog", "c.png,dog,"]
    file = written(tmp_path, *rows, header="path,label,correction")
    outcome = correct(index("a.png", "b.png", "c.png"), "multiclass", NAMES, file, None)
    (warning,) = outcome.warnings
    assert "1 rows have a label that is not the data's and no correction, first in line 2: 'a.png' (dog)" in warning
    assert "write new labels into the column correction" in warning
    assert outcome.splits["train"].targets.tolist() == [0, 0, 1]


def test_labels_of_several_classes_are_compared_as_sets(tmp_path: Path) -> None:
    targets = torch.tensor([[1, 1, 0], [0, 0, -1], [1, 0, 0]])
    file = written(tmp_path, "a.png,dog; cat,", "b.png,none,", "c.png,dog,", header="path,label,correction")
    (warning,) = correct(
        {"train": Index(list(map("{}.png".format, "abc")), targets)}, "multilabel", NAMES, file, None
    ).warnings
    assert "1 rows have a label" in warning
    assert "'c.png'" in warning


def test_a_class_that_loses_its_training_images_is_warned_about(tmp_path: Path) -> None:
    outcome = correct(index("a.png", "b.png"), "multiclass", NAMES, written(tmp_path, "a.png,dog", "b.png,drop"), None)
    assert outcome.warnings == [f"{tmp_path}/corrections.csv: 1 classes have no training image any more: cat"]


def test_a_split_that_is_left_empty_is_an_error(root: Path, tmp_path: Path) -> None:
    rows = [f"val/{name}/{n}.png,drop" for name in ("cat", "dog", "owl") for n in range(3)]
    with pytest.raises(ValueError, match="the val split of the data is empty"):
        corrected(read_folder, root, written(tmp_path, *rows))


def test_many_corrections_match_a_dictionary(tmp_path: Path) -> None:
    draw = random.Random(0)
    paths = [f"/data/{n}.png" for n in range(3000)]
    chosen = {path: draw.choice([*NAMES, "drop"]) for path in draw.sample(paths, 1000)}
    file = written(tmp_path, *(f"{path},{label}" for path, label in chosen.items()))
    outcome = correct(index(*paths), "multiclass", NAMES, file, "/data")
    wanted = {path: label for path in paths if (label := chosen.get(path, "cat")) != "drop"}
    train = outcome.splits["train"]
    assert dict(zip(train.paths, [NAMES[k] for k in train.targets.tolist()], strict=True)) == wanted
    assert outcome.record["dropped"] == len(paths) - len(wanted)
    assert outcome.record["labels"] == sum(label in NAMES[1:] for label in chosen.values())


def test_a_name_that_is_no_text_is_found(tmp_path: Path) -> None:
    file = written(tmp_path, "x\udcff.png,dog")
    assert correct(index("x\udcff.png"), "multiclass", NAMES, file, None).splits["train"].targets.tolist() == [1]


@pytest.mark.slow
def test_a_run_with_corrections_is_resumed_with_the_same_ones_only(
    invoke: Invoke, root: Path, tmp_path: Path, runs: Callable[[], list[Path]]
) -> None:
    file = written(tmp_path, "train/cat/1.png,dog", "val/cat/0.png,drop")
    assert invoke("train", "data=folder", f"data.root={root}", f"data.corrections={file}", *SMALL).code == 0
    (run,) = runs()
    assert "2 corrections: the labels of 1 images changed, 1 images left out" in (run / "train.log").read_text()
    entry = json.loads((run / "provenance.json").read_text())["starts"][0]["data_fingerprint"]
    assert (entry["counts"]["val"], entry["corrections"]["labels"], entry["corrections"]["dropped"]) == (8, 1, 1)
    written(tmp_path, "train/cat/1.png,owl", "val/cat/0.png,drop")
    code, _, err = invoke("train", f"resume={run}", "trainer.max_epochs=2")
    assert code == 2
    assert (
        "data differ from the run's (other images, labels or classes, but the same number of images; data.corr" in err
    )
    written(tmp_path, "train/cat/1.png,dog", "val/cat/0.png,drop", "train/cat/2.png,")  # no other correction
    assert invoke("train", f"resume={run}", "trainer.max_epochs=2").code == 0
    code, out, err = invoke("evaluate", f"run={run}")
    assert code == 0, err
    assert "2 corrections: the labels of 1 images changed" in out + err
    assert "differ" not in out + err
    other = shutil.copytree(root, tmp_path / "other")
    Path(file).unlink()
    code, out, err = invoke("evaluate", f"run={run}", "data=folder", f"data.root={other}")
    assert code == 0, err
    assert invoke("report", f"run={run}").code == 0
    code, _, err = invoke("evaluate", f"run={run}")
    assert code == 2
    assert f"data.corrections={file}: there is no such file" in err


@pytest.mark.slow
def test_a_copy_of_corrected_data_is_known_when_all_of_it_is_tested(
    invoke: Invoke, tmp_path: Path, runs: Callable[[], list[Path]]
) -> None:
    root = make_folder(tmp_path / "flat", ("a", "b"), 20)
    file = written(tmp_path, "a/1.png,b", "b/3.png,drop")
    split = ("data.val_fraction=0.2", "data.test_fraction=0.3", f"data.corrections={file}")
    assert invoke("train", "data=folder", f"data.root={root}", *split, *SMALL).code == 0
    (run,) = runs()
    moved = shutil.move(root, tmp_path / "moved")
    code, out, err = invoke("evaluate", f"run={run}", "data=folder", f"data.root={moved}")
    assert code == 0, err
    assert "on 40 images" in out
    assert f"data.test_fraction=0.3 data.split_seed=0 data.corrections={file}" in " ".join(out.split())
