from pathlib import Path
from typing import Any

import pytest

from fovea.data.sources.singlelabel_csv import read_csv

IMAGES = ("a.jpg", "b.jpg", "c.jpg", "parts/1/d.jpg", "parts/2/e.jpg")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in IMAGES:
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    return tmp_path


def write(root: Path, *lines: str) -> Path:
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


def test_classes_are_the_labels_in_sorted_order(root: Path) -> None:
    splits = read_csv(write(root, "path,label,split", "a.jpg,dog,train", "b.jpg, cat ,train", "c.jpg,dog,valid"))
    assert (splits.task, splits.class_names) == ("multiclass", ("cat", "dog"))
    assert list(splits.train.paths) == [str(root / "a.jpg"), str(root / "b.jpg")]
    assert splits.train.targets.tolist() == [1, 0]
    assert splits.val.targets.tolist() == [1]
    assert splits.test is None


def test_the_ending_is_added_to_ids_and_numbers_are_sorted_by_value(root: Path) -> None:
    """As in Kaggle's aptos2019, with labels that pandas turned into floats."""
    write(root, "id_code,diagnosis", "a,10", "b,9.0", "c.jpg,9")
    splits = read_csv(root, path_column="id_code", ending=".jpg", label_column="diagnosis")
    assert splits.class_names == ("9", "10")
    assert list(splits.train.paths) == [str(root / name) for name in ("a.jpg", "b.jpg", "c.jpg")]
    assert splits.train.targets.tolist() == [1, 0, 0]


def test_the_error_about_ids_without_an_ending_names_the_option(root: Path) -> None:
    write(root, "id,label", "a,x", "b,y")
    with pytest.raises(
        ValueError, match=r"2 of 2 images are missing(.|\n)*a\.jpg exists: set data\.read\.ending=\.jpg"
    ):
        read_csv(root, path_column="id")


def test_anywhere_searches_all_folders_for_the_file_names(root: Path) -> None:
    write(root, "path,label", "a.jpg,x", "e.jpg,y", "d.jpg,x")
    with pytest.raises(ValueError, match=r"2 of 3 images are missing(.|\n)*data\.read\.anywhere=true"):
        read_csv(root)
    with pytest.raises(ValueError, match=r"1 of 1 images are missing(.|\n)*no folder/f"):
        read_csv(write(root, "path,label", "no folder/f,x"))
    write(root, "path,label", "a.jpg,x", "e.jpg,y", "d.jpg,x")
    splits = read_csv(root, anywhere=True)
    assert list(splits.train.paths) == [str(root / name) for name in ("a.jpg", "parts/2/e.jpg", "parts/1/d.jpg")]
    (root / "parts" / "1" / "e.jpg").touch()
    with pytest.raises(
        ValueError, match=r"1 names belong to several images, such as e\.jpg \(.*1/e\.jpg, .*2/e\.jpg\)"
    ):
        read_csv(root, anywhere=True)


def test_anywhere_takes_an_image_only_from_a_folder_of_the_name_in_the_table(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for folder in ("site A", "site B"):
        (root / "images" / folder).mkdir(parents=True)
        (root / "images" / folder / "1.jpg").touch()
    write(root, "path,label", "site B/1.jpg,x", "/another machine/site A/1.jpg,y")
    splits = read_csv(root, anywhere=True)
    assert list(splits.train.paths) == [str(root / "images" / name / "1.jpg") for name in ("site B", "site A")]
    assert "2 of 2 images were found by name" in caplog.text
    (root / "images" / "site B" / "1.jpg").unlink()
    with pytest.raises(ValueError, match=r"1 images are in other folders .*B/1.jpg \(only .*A/1.jpg has"):
        read_csv(root, anywhere=True)


def test_a_table_may_be_beside_the_images_folder(root: Path) -> None:
    write(root, "path,label", "d.jpg,x", "../2/e.jpg,y")
    with pytest.raises(ValueError, match="points outside"):
        read_csv(root / "parts" / "1", csv="../../labels.csv")
    write(root, "path,label", "1/d.jpg,x", "2/e.jpg,y")
    assert read_csv(root / "parts", csv="../labels.csv").class_names == ("x", "y")


def test_column_names_ignore_case_and_must_be_unique(root: Path) -> None:
    assert read_csv(write(root, "Path,LABEL", "a.jpg,x", "b.jpg,y")).class_names == ("x", "y")
    with pytest.raises(ValueError, match="must not be repeated or empty: 'label'"):
        read_csv(write(root, "path,label,label", "a.jpg,x,y", "b.jpg,y,x"))


@pytest.mark.parametrize(
    ("lines", "match"),
    [
        (["image,healthy,rust", "a.jpg,1,0"], "no column 'path'(.|\n)*data.read.path_column="),
        (["path,healthy,rust", "a.jpg,1,0"], "no column 'label'(.|\n)*label_column=(.|\n)*data=multilabel_csv"),
        (
            ["path,label", "a.jpg,x", "b.jpg,", "c.jpg,NaN"],
            r"'label': 2 rows have no label \('nothing' in 1, 'NaN' in 1\), first in lines 3, 4",
        ),
        (["path,label", ",x", "b.jpg,y"], "line 2: column 'path' is empty"),
        (["path,label,split", "a.jpg,x,train", "b.jpg,y,test"], "1 classes have no row in train: 'y'"),
        (["path,label", "a.jpg,x|y", "b.jpg,y", "c.jpg,x"], "1 images have 1 names(.|\n)*data=multilabel_csv"),
        (["path,label", "a.jpg,\"['x', 'y']\"", "b.jpg,x"], "brackets or quotes(.|\n)*multilabel_csv.*list"),
        (["path,label", *[f"a.jpg,{n}.5" for n in range(20)]], "20 different labels, .* measured values"),
        (["path,label", *[f"a.jpg,x{n}" for n in range(20)]], "20 different labels, .* texts or ids"),
    ],
)
def test_suspicious_tables_are_an_error(root: Path, lines: list[str], match: str) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        read_csv(write(root, *lines))
    assert len(str(caught.value).splitlines()) <= 6


def test_a_table_to_evaluate_on_may_have_one_class_and_no_train_rows(root: Path) -> None:
    splits = read_csv(write(root, "path,label,split", "a.jpg,x,test", "b.jpg,x,test"))
    assert (splits.train, splits.class_names, len(splits.test)) == (None, ("x",), 2)


@pytest.mark.parametrize("option", [{"split_values": {0: "training"}}, {"split_column": True}])
def test_invalid_options_are_an_error(root: Path, option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"data.read.{next(iter(option))}"):
        read_csv(write(root, "path,label", "a.jpg,x", "b.jpg,y"), **option)


def test_split_values_can_map_numbers_to_splits(root: Path) -> None:
    """CelebA's partition."""
    write(root, "path,label,partition", "a.jpg,x,0", "b.jpg,y,0", "c.jpg,y,2")
    values: Any = {0: "train", 1: "val", 2: "test"}  # YAML reads numbers
    splits = read_csv(root, split_values=values)
    assert len(splits.train) == 2
    assert list(splits.test.paths) == [str(root / "c.jpg")]
