from pathlib import Path

import pytest
import torch

from fovea.data.sources.voc import read_voc

# image -> its objects as (class, difficult); None: without the tag, as in some of VOC's files
OBJECTS: dict[str, list[tuple[str, int | None]]] = {
    "000001": [("dog", 0), ("person", 0), ("person", 1)],
    "000002": [("car", 1), ("person", 1), ("person", 0)],
    "000003": [],
    "000004": [("tvmonitor", None), ("aeroplane", 1), ("aeroplane", 1)],
    "000005": [("cat", 0)],
}
# by hand from the 20 names in alphabetical order: aeroplane 0, car 6, cat 7, dog 11, person 14, tvmonitor 19
EXPECTED = {
    "000001": {11: 1, 14: 1},
    "000002": {6: -1, 14: 1},
    "000003": {},
    "000004": {0: -1, 19: 1},
    "000005": {7: 1},
}
LISTS = {"train": ["000002", "000001"], "val": ["000003"], "trainval": ["000001", "000002", "000003"]}
TEST = ["000004", "000005"]


def annotation(objects: list[tuple[str, int | None]]) -> str:
    items = [
        f"<object><name>{name}</name><part><name>head</name></part>"
        + (f"<difficult>{hard}</difficult>" if hard is not None else "")
        + "</object>"
        for name, hard in objects
    ]
    return "<annotation><folder>VOC2007</folder>" + "\n".join(items) + "</annotation>"


def make_voc(folder: Path) -> Path:
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    for name, objects in OBJECTS.items():
        (folder / "JPEGImages" / f"{name}.jpg").touch()
        (folder / "Annotations" / f"{name}.xml").write_text(annotation(objects))
    for name, ids in {**LISTS, "test": TEST}.items():
        (folder / "ImageSets" / "Main" / f"{name}.txt").write_text("".join(f"{i}\n" for i in ids))
    return folder


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    make_voc(tmp_path / "VOCdevkit" / "VOC2007")
    return tmp_path


def expected(ids: list[str]) -> list[list[float]]:
    return [[EXPECTED[name].get(k, 0) for k in range(20)] for name in ids]


def test_the_three_lists_are_the_three_splits_in_their_order(devkit: Path) -> None:
    splits = read_voc(devkit)
    assert splits.task == "multilabel"
    assert splits.class_names == tuple(sorted(splits.class_names))
    assert len(splits.class_names) == 20
    images = devkit / "VOCdevkit" / "VOC2007" / "JPEGImages"
    for index, ids in ((splits.train, LISTS["train"]), (splits.val, LISTS["val"]), (splits.test, TEST)):
        assert index.paths == [str(images / f"{name}.jpg") for name in ids]
        assert index.targets.tolist() == expected(ids)
        assert index.targets.dtype == torch.int8


def test_a_class_with_only_difficult_objects_is_unknown(devkit: Path) -> None:
    splits = read_voc(devkit)
    car, person = splits.class_names.index("car"), splits.class_names.index("person")
    assert splits.train.targets[0, car] == -1
    assert splits.train.targets[:, person].tolist() == [1, 1]  # difficult after and before a normal object


@pytest.mark.parametrize("root", [".", "VOCdevkit", "VOCdevkit/VOC2007"])
def test_the_root_may_be_any_of_three_folders(devkit: Path, root: str) -> None:
    assert read_voc(devkit / root).train.targets.tolist() == expected(LISTS["train"])


def test_another_year_is_another_folder(devkit: Path) -> None:
    (devkit / "VOCdevkit" / "VOC2007").rename(devkit / "VOCdevkit" / "VOC2012")
    assert "VOC2012" in read_voc(devkit, year="2012").train.paths[0]
    for root in (devkit, devkit / "VOCdevkit" / "VOC2012"):
        with pytest.raises(ValueError, match=r"has no VOCdevkit/VOC2007(.|\n)*data\.read\.year"):
            read_voc(root, year="2007")


def test_without_its_list_there_is_no_test_split(devkit: Path) -> None:
    (devkit / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main" / "test.txt").unlink()
    assert read_voc(devkit).test is None


def test_lists_can_be_chosen_and_left_out(devkit: Path) -> None:
    splits = read_voc(devkit, train_list="trainval", val_list=None, test_list=None)
    assert splits.train.targets.tolist() == expected(LISTS["trainval"])
    assert splits.val is None
    assert splits.test is None


def test_an_image_in_two_splits_is_an_error(devkit: Path) -> None:
    with pytest.raises(ValueError, match=r"1 images of val are also in train, first .'000003'"):
        read_voc(devkit, train_list="trainval")


@pytest.mark.parametrize("option", ["train_list", "val_list", "test_list"])
def test_a_missing_list_is_an_error(devkit: Path, option: str) -> None:
    with pytest.raises(ValueError, match=r"nolist.txt does not exist"):
        read_voc(devkit, **{option: "nolist"})


def test_the_error_about_other_classes_names_two_ways_to_read_them(devkit: Path) -> None:
    folder = devkit / "VOCdevkit" / "VOC2007"
    (folder / "Annotations" / "000001.xml").write_text(annotation([("dragon", 0), ("elf", 0)]))
    (folder / "Annotations" / "000003.xml").write_text(annotation([("dragon", 1)]))
    names = r"2 names are not among VOC's 20 classes: 'dragon' \(2 images\), 'elf' \(1 images\)"
    with pytest.raises(ValueError, match=names + r"(.|\n)*data\.read\.classes=all(.|\n)*classes=\["):
        read_voc(devkit)


def test_classes_come_from_the_annotations_or_from_a_list_in_its_order(devkit: Path) -> None:
    folder = devkit / "VOCdevkit" / "VOC2007"
    (folder / "Annotations" / "000001.xml").write_text(annotation([("elf", 1), ("dragon", 0), ("elf", 1)]))
    (folder / "Annotations" / "000002.xml").write_text(annotation([("elf", 1), ("elf", 0)]))
    splits = read_voc(devkit, classes="all", test_list=None)
    assert splits.class_names == ("dragon", "elf")
    assert splits.train.targets.tolist() == [[0, 1], [1, -1]]
    splits = read_voc(devkit, classes=["elf", "gnome", "dragon"], test_list=None)
    assert splits.class_names == ("elf", "gnome", "dragon")
    assert splits.train.targets.tolist() == [[1, 0, 0], [-1, 0, 1]]
    with pytest.raises(ValueError, match=r"1 names are not in data.read.classes: 'dragon' \(1 images\)"):
        read_voc(devkit, classes=["elf"], test_list=None)
    with pytest.raises(ValueError, match=r"data.read.classes=elf: expected a list"):
        read_voc(devkit, classes="elf", test_list=None)


def test_a_list_for_one_class_is_read_with_a_warning(devkit: Path, caplog: pytest.LogCaptureFixture) -> None:
    lists = devkit / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main"
    (lists / "dog_train.txt").write_text("000002 -1\n000001  1\n")
    splits = read_voc(devkit, train_list="dog_train")
    assert splits.train.targets.tolist() == expected(LISTS["train"])
    assert "dog_train.txt is a list for one class: all of its 2 images are used" in caplog.text


def test_image_names_may_contain_spaces_and_have_another_ending(devkit: Path) -> None:
    folder = devkit / "VOCdevkit" / "VOC2007"
    (folder / "JPEGImages" / "my photo 1.png").touch()
    (folder / "Annotations" / "my photo 1.xml").write_text(annotation([("dog", 0)]))
    (folder / "ImageSets" / "Main" / "own.txt").write_text("my photo 1\n")
    splits = read_voc(devkit, train_list="own", val_list=None, test_list=None, ending=".png")
    assert splits.train.paths == [str(folder / "JPEGImages" / "my photo 1.png")]


@pytest.mark.parametrize(("part", "suffix"), [("JPEGImages", "jpg"), ("Annotations", "xml")])
def test_missing_files_are_counted_and_the_first_named(devkit: Path, part: str, suffix: str) -> None:
    for name in LISTS["train"]:
        (devkit / "VOCdevkit" / "VOC2007" / part / f"{name}.{suffix}").unlink()
    with pytest.raises(ValueError, match=rf"train: 2 of 2 files are missing(.|\n)*000002.{suffix}\n.*000001.{suffix}"):
        read_voc(devkit)


def test_the_error_about_missing_test_files_says_how_to_leave_them_out(devkit: Path) -> None:
    (devkit / "VOCdevkit" / "VOC2007" / "Annotations" / "000005.xml").unlink()
    with pytest.raises(ValueError, match=r"test: 1 of 2 .*data.read.test_list=null"):
        read_voc(devkit)
    assert read_voc(devkit, test_list=None).test is None


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (annotation([("", 0)]).encode(), "000001.xml: an object has no name"),
        (b"<annotation><object>", "000001.xml is not a VOC annotation"),
        (
            b'<!DOCTYPE a [<!ENTITY b "dog">]><annotation/>',
            "000001.xml is not a VOC annotation: it defines a document type",
        ),
        (b'<!DOCTYPE a SYSTEM "b.dtd"><annotation/>', "000001.xml is not a VOC annotation: it defines a document type"),
        ('<!DOCTYPE a [<!ENTITY b "dog">]><annotation/>'.encode("utf-16"), "000001.xml is not a VOC annotation"),
    ],
)
def test_an_annotation_in_another_format_is_an_error_that_names_it(devkit: Path, content: bytes, match: str) -> None:
    (devkit / "VOCdevkit" / "VOC2007" / "Annotations" / "000001.xml").write_bytes(content)
    with pytest.raises(ValueError, match=match):
        read_voc(devkit)
