import json
from pathlib import Path
from typing import Any

import pytest
import torch

from fovea.data.sources.coco import read_coco

CATEGORIES = [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}, {"id": 90, "name": "toothbrush"}]
TRAIN: dict[str, Any] = {
    "info": {"id": 5},
    "images": [
        {"id": 9, "file_name": "b.jpg"},
        {"id": 4, "file_name": "a.jpg"},
        {"id": 7, "file_name": "sub/c.jpg"},
    ],
    "annotations": [
        {"id": 1, "image_id": 4, "category_id": 18, "iscrowd": 0, "segmentation": [[1.0, 2.0]]},
        {"id": 2, "image_id": 9, "category_id": 90, "iscrowd": 0, "segmentation": []},
        {"id": 3, "image_id": 4, "category_id": 18, "iscrowd": 0, "segmentation": []},
        {
            "id": 4,
            "image_id": 9,
            "category_id": 1,
            "iscrowd": 1,
            "segmentation": {"counts": [3], "size": [1, 2]},
        },
    ],
    "categories": CATEGORIES,
}
VAL: dict[str, Any] = {
    "images": [{"id": 4, "file_name": "v.jpg"}],
    "annotations": [{"id": 1, "image_id": 4, "category_id": 1, "iscrowd": 0}],
    "categories": CATEGORIES[::-1],
}


def write(root: Path, split: str, content: dict[str, Any]) -> None:
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split, content in (("train", TRAIN), ("val", VAL)):
        write(tmp_path, split, content)
        for image in content["images"]:
            file = tmp_path / f"{split}2017" / image["file_name"]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    return tmp_path


def test_classes_are_sorted_by_category_id_and_images_keep_the_files_order(root: Path) -> None:
    splits = read_coco(root)
    assert splits.task == "multilabel"
    assert splits.class_names == ("person", "dog", "toothbrush")
    assert splits.train.paths == [str(root / "train2017" / name) for name in ("b.jpg", "a.jpg", "sub/c.jpg")]
    assert splits.train.targets.tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]
    assert splits.val.paths == [str(root / "val2017" / "v.jpg")]
    assert splits.val.targets.tolist() == [[1, 0, 0]]
    assert splits.train.targets.dtype == torch.int8
    assert splits.test is None


def test_a_crowd_counts_as_present(root: Path) -> None:
    splits = read_coco(root)
    assert splits.train.targets[0, splits.class_names.index("person")] == 1


def test_an_image_without_annotations_is_kept_with_every_class_absent(root: Path) -> None:
    write(root, "val", {**VAL, "annotations": []})
    assert read_coco(root).val.targets.tolist() == [[0, 0, 0]]


def test_a_test_file_can_be_given_and_validation_left_out(root: Path) -> None:
    file = "annotations/instances_val2017.json"
    splits = read_coco(root, test_images="val2017", val_annotations=None, test_annotations=file)
    assert splits.val is None
    assert splits.test.paths == [str(root / "val2017" / "v.jpg")]
    assert splits.test.targets.tolist() == [[1, 0, 0]]


def test_a_random_file_matches_a_plain_loop(root: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    pairs = torch.randint(0, 3, (4, 2), generator=generator).tolist()
    annotations = [
        {"image_id": TRAIN["images"][i]["id"], "category_id": CATEGORIES[k]["id"], "iscrowd": 0} for i, k in pairs
    ]
    write(root, "train", {**TRAIN, "annotations": annotations})
    splits = read_coco(root)
    for i, image in enumerate(TRAIN["images"]):
        for k, name in enumerate(splits.class_names):
            number = next(c["id"] for c in CATEGORIES if c["name"] == name)
            present = any(a["image_id"] == image["id"] and a["category_id"] == number for a in annotations)
            assert splits.train.targets[i, k] == float(present)


def test_categories_with_the_same_name_become_one_class(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Roboflow's exports begin with such a root category; here it has the name of a real one."""
    doubled = [{"id": 0, "name": "dog"}, *CATEGORIES]
    write(root, "train", {**TRAIN, "categories": doubled})
    write(root, "val", {**VAL, "categories": doubled})
    splits = read_coco(root)
    assert splits.class_names == ("dog", "person", "toothbrush")
    assert splits.train.targets.tolist() == [[0, 1, 1], [1, 0, 0], [0, 0, 0]]
    assert "1 category names have several ids; each name is read as one class: [\"'dog' (ids 0, 18)\"]" in caplog.text


def test_two_categories_with_the_same_id_are_an_error(root: Path) -> None:
    write(root, "train", {**TRAIN, "categories": [*CATEGORIES, {"id": 1, "name": "cat"}]})
    with pytest.raises(ValueError, match=r"train2017.json: categories 'cat' and 'person' share the id 1"):
        read_coco(root)


def test_files_with_different_categories_are_an_error(root: Path) -> None:
    write(root, "val", {**VAL, "categories": [*CATEGORIES[:2], {"id": 90, "name": "comb"}]})
    with pytest.raises(ValueError, match=r"instances_val2017.json has other categories than .*\(90, 'comb'\)"):
        read_coco(root)


def test_missing_images_are_counted_and_the_first_named(root: Path) -> None:
    (root / "train2017" / "a.jpg").unlink()
    (root / "train2017" / "sub" / "c.jpg").unlink()
    with pytest.raises(ValueError, match=r"train2017.json: 2 of 3 images are missing(.|\n)*a.jpg\n.*c.jpg"):
        read_coco(root)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"annotations": [{"image_id": 5, "category_id": 1}]}, "a missing image or category, id 5"),
        ({"annotations": [{"image_id": 4, "category_id": 2}]}, "a missing image or category, id 2"),
        ({"images": []}, "lists no images"),
        ({"images": [TRAIN["images"][0]] * 2}, "2 images share 1 ids"),
    ],
)
def test_an_inconsistent_file_is_an_error(root: Path, change: dict[str, Any], match: str) -> None:
    write(root, "train", {**TRAIN, **change})
    with pytest.raises(ValueError, match=f"instances_train2017.json.* {match}"):
        read_coco(root)


def test_a_file_in_another_format_is_an_error(root: Path) -> None:
    write(root, "train", {"images": [], "annotations": []})
    with pytest.raises(ValueError, match="has no 'categories': it is not a COCO instances file"):
        read_coco(root)
    (root / "annotations" / "instances_train2017.json").write_text("{")
    with pytest.raises(ValueError, match=r"instances_train2017.json is not JSON"):
        read_coco(root)
    (root / "annotations" / "instances_train2017.json").unlink()
    with pytest.raises(ValueError, match=r"instances_train2017.json does not exist"):
        read_coco(root)
