"""Three tiny layouts of four classes, whose ILSVRC ids run against the sorted wnids."""

import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

from fovea.data.sources.imagenet import read_imagenet

# ILSVRC2012_ID, WNID, words, num_train_images; ids above 1000 are inner nodes
SYNSETS = [
    (1, "n02119789", "kit fox, Vulpes macrotis", 3),
    (2, "n01440764", "tench, Tinca tinca", 2),
    (3, "n03126707", "crane", 2),
    (4, "n02012849", "crane", 2),
    (1001, "n00001740", "entity", 0),
    (1002, "n00000001", "physical entity", 0),
]
CLASS_OF = {"n01440764": 0, "n02012849": 1, "n02119789": 2, "n03126707": 3}  # sorted wnids, written by hand
NAMES = ("tench", "crane (n02012849)", "kit fox", "crane (n03126707)")
TRUTH = [3, 1, 2, 2, 4, 1]  # line n: id of validation image n
VAL_CLASS_OF = {1: 3, 2: 2, 3: 0, 4: 0, 5: 1, 6: 2}  # image n: class, written by hand


def touch(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def make_train(folder: Path, wnids: list[str], images: int = 2) -> None:
    touch(*(folder / wnid / f"{wnid}_{i}.JPEG" for wnid in wnids for i in range(images)))


def make_flat_val(folder: Path, numbers: list[int]) -> None:
    touch(*(folder / f"ILSVRC2012_val_{n:08d}.JPEG" for n in numbers))


def make_devkit(root: Path) -> None:
    folder = root / "ILSVRC2012_devkit_t12" / "data"
    folder.mkdir(parents=True)
    fields = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_train_images", "O")]
    scipy.io.savemat(folder / "meta.mat", {"synsets": np.array(SYNSETS, dtype=fields)})
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{i}\n" for i in TRUTH))


def make_original(root: Path, train: str = "ILSVRC2012_img_train", val: str = "ILSVRC2012_img_val") -> None:
    make_train(root / train, list(CLASS_OF))
    make_flat_val(root / val, list(VAL_CLASS_OF))
    make_devkit(root)


def make_kaggle(root: Path) -> None:
    images = root / "ILSVRC" / "Data" / "CLS-LOC"
    make_train(images / "train", list(CLASS_OF))
    make_flat_val(images / "val", list(VAL_CLASS_OF))
    wnid_of = {k: wnid for wnid, k in CLASS_OF.items()}
    rows = [f"ILSVRC2012_val_{n:08d},{wnid_of[k]} 1 2 3 4 {wnid_of[k]} 5 6 7 8 \n" for n, k in VAL_CLASS_OF.items()]
    (root / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + "".join(reversed(rows)))
    words = {wnid: words for _, wnid, words, _ in SYNSETS[:4]}
    (root / "LOC_synset_mapping.txt").write_text("".join(f"{wnid} {words[wnid]}\n" for wnid in CLASS_OF))


def expected_train(paths: Sequence[str]) -> list[int]:
    return [CLASS_OF[Path(path).parent.name] for path in paths]


def expected_val(paths: Sequence[str]) -> list[int]:
    return [VAL_CLASS_OF[int(Path(path).stem[-8:])] for path in paths]


def test_the_original_layout_goes_from_line_to_ilsvrc_id_to_wnid_to_sorted_class(tmp_path: Path) -> None:
    make_original(tmp_path)
    splits = read_imagenet(tmp_path)
    assert splits.task == "multiclass"
    assert splits.class_names == NAMES
    assert (len(splits.train), len(splits.val)) == (8, 6)
    assert splits.train.targets.dtype == splits.val.targets.dtype == torch.int32
    assert splits.train.targets.tolist() == expected_train(splits.train.paths)
    assert splits.val.targets.tolist() == expected_val(splits.val.paths)
    assert all(Path(path).is_file() for path in [*splits.train.paths, *splits.val.paths])
    assert splits.test is None


def test_the_original_layout_may_have_the_plain_folder_names(tmp_path: Path) -> None:
    make_original(tmp_path, "train", "val")
    splits = read_imagenet(tmp_path)
    assert splits.val.targets.tolist() == expected_val(splits.val.paths)


def test_a_validation_image_is_found_by_its_number_and_not_by_its_rank(tmp_path: Path) -> None:
    make_train(tmp_path / "train", list(CLASS_OF))
    make_flat_val(tmp_path / "val", [2, 5, 6])
    make_devkit(tmp_path)
    assert read_imagenet(tmp_path).val.targets.tolist() == [VAL_CLASS_OF[2], VAL_CLASS_OF[5], VAL_CLASS_OF[6]]


def test_class_folders_alone_are_sorted_and_named_by_wnid(tmp_path: Path) -> None:
    make_train(tmp_path / "train", ["n03126707", "n01440764", "n02119789"])
    make_train(tmp_path / "val", ["n02119789", "n03126707"], images=1)
    splits = read_imagenet(tmp_path)
    assert splits.class_names == ("n01440764", "n02119789", "n03126707")
    assert splits.train.targets.tolist() == [0, 0, 1, 1, 2, 2]
    assert splits.val.targets.tolist() == [1, 2]


def test_a_devkit_beside_class_folders_gives_all_classes_and_names(tmp_path: Path) -> None:
    make_train(tmp_path / "train", ["n02119789"])
    make_train(tmp_path / "val", ["n03126707"])
    make_devkit(tmp_path)
    splits = read_imagenet(tmp_path)
    assert splits.class_names == NAMES
    assert splits.train.targets.tolist() == [2, 2]
    assert splits.val.targets.tolist() == [3, 3]


@pytest.mark.parametrize("inside", ["", "ILSVRC", "ILSVRC/Data", "ILSVRC/Data/CLS-LOC"])
def test_kaggles_layout_is_read_from_its_top_or_from_inside(tmp_path: Path, inside: str) -> None:
    make_kaggle(tmp_path)
    splits = read_imagenet(tmp_path / inside)
    assert splits.class_names == NAMES
    assert splits.train.targets.tolist() == expected_train(splits.train.paths)
    assert splits.val.targets.tolist() == expected_val(splits.val.paths)


def test_kaggles_layout_without_a_mapping_has_the_classes_of_the_solution_file(tmp_path: Path) -> None:
    make_kaggle(tmp_path)
    (tmp_path / "LOC_synset_mapping.txt").unlink()
    shutil.rmtree(tmp_path / "ILSVRC" / "Data" / "CLS-LOC" / "train" / "n02012849")
    splits = read_imagenet(tmp_path)
    assert splits.class_names == tuple(CLASS_OF)
    assert splits.val.targets.tolist() == expected_val(splits.val.paths)


def test_missing_images_and_classes_are_counted_by_the_devkit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_train(tmp_path / "train", ["n02119789", "n01440764"])
    make_flat_val(tmp_path / "val", [1, 4])
    make_devkit(tmp_path)
    with caplog.at_level(logging.WARNING):
        read_imagenet(tmp_path)
    assert caplog.messages == [
        "train: only 4 of 9 images exist",
        "train: only 2 of 4 classes have images",
        "val: only 2 of 6 images exist",
        "val: only 2 of 4 classes have images",
    ]


def test_files_that_are_not_images_are_skipped_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_original(tmp_path)
    train = tmp_path / "ILSVRC2012_img_train"
    touch(train / "n01440764.tar", train / "n01440764" / "notes.txt", train / "n01440764" / "._a.JPEG")
    (train / ".snapshot").mkdir()
    with caplog.at_level(logging.WARNING):
        assert len(read_imagenet(tmp_path).train) == 8
    assert any("4 files skipped" in message for message in caplog.messages)


def test_a_class_folder_that_the_devkit_does_not_have_is_an_error(tmp_path: Path) -> None:
    make_original(tmp_path)
    make_train(tmp_path / "ILSVRC2012_img_train", ["n09999999"])
    with pytest.raises(ValueError, match=r"1 class folders are not among the 4 classes.*'n09999999'"):
        read_imagenet(tmp_path)


def test_a_validation_folder_that_train_does_not_have_is_an_error(tmp_path: Path) -> None:
    make_train(tmp_path / "train", ["n01440764"])
    make_train(tmp_path / "val", ["n01440764", "n02119789"])
    with pytest.raises(ValueError, match="'n02119789'"):
        read_imagenet(tmp_path)


def test_a_folder_not_named_by_a_wnid_is_an_error(tmp_path: Path) -> None:
    make_train(tmp_path / "train", ["n01440764", "cats"])
    make_train(tmp_path / "val", ["n01440764"])
    with pytest.raises(ValueError, match=r"not ImageNet classes such as n01440764, first \['cats'\]"):
        read_imagenet(tmp_path)


@pytest.mark.parametrize("name", ["ILSVRC2012_val_00000007.JPEG", "ILSVRC2012_val_00000000.JPEG", "tench.JPEG"])
@pytest.mark.parametrize("make", [make_original, make_kaggle])
def test_a_validation_name_without_a_line_in_the_ground_truth_is_an_error(
    tmp_path: Path, make: Callable[[Path], None], name: str
) -> None:
    make(tmp_path)
    val = tmp_path / "ILSVRC2012_img_val"
    touch((val if val.is_dir() else tmp_path / "ILSVRC" / "Data" / "CLS-LOC" / "val") / name)
    with pytest.raises(ValueError, match=f"1 images have no line.*{Path(name).stem}(.|\n)*00000001 to .*00000006"):
        read_imagenet(tmp_path)


def test_images_beside_class_folders_are_an_error(tmp_path: Path) -> None:
    make_train(tmp_path / "train", list(CLASS_OF))
    make_train(tmp_path / "val", list(CLASS_OF))
    make_flat_val(tmp_path / "val", [3])
    with pytest.raises(ValueError, match="also 1 images outside of them"):
        read_imagenet(tmp_path)


def test_a_flat_validation_folder_without_ground_truth_is_an_error(tmp_path: Path) -> None:
    make_train(tmp_path / "train", list(CLASS_OF))
    make_flat_val(tmp_path / "val", [3])
    with pytest.raises(ValueError, match="no file with the images' classes"):
        read_imagenet(tmp_path)


def test_a_ground_truth_with_ids_that_meta_mat_lacks_is_an_error(tmp_path: Path) -> None:
    make_original(tmp_path)
    truth = tmp_path / "ILSVRC2012_devkit_t12" / "data" / "ILSVRC2012_validation_ground_truth.txt"
    truth.write_text("1\n5\n")
    with pytest.raises(ValueError, match=r"class ids \[5\] are not in meta.mat"):
        read_imagenet(tmp_path)


def test_the_error_without_a_folder_names_the_variable_and_the_key() -> None:
    with pytest.raises(ValueError, match=r"IMAGENET_DIR is not set(.|\n)*\.env(.|\n)*data\.root="):
        read_imagenet(None)


@pytest.mark.parametrize("made", [[], ["x"], ["x/train", "x/val"], ["x/train/n01440764", "x/val/n01440764"]])
def test_the_error_for_a_missing_or_empty_folder_lists_the_three_layouts(tmp_path: Path, made: list[str]) -> None:
    for folder in made:
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(ValueError, match=r"train/<wnid>.*devkit_t12.*LOC_val_solution(.|\n)*data\.root=") as caught:
        read_imagenet(tmp_path / "x")
    assert len(str(caught.value).splitlines()) <= 4
