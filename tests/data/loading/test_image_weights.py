import logging
from pathlib import Path

import pytest

from fovea.data.loading.image_weights import read_image_weights
from fovea.data.string_array import StringArray

NAMES = ["train/a b/é.png", "train/c,d.png", "1.png"]
PATHS = StringArray.of([f"/data/{name}" for name in NAMES], "/data/")


def written(folder: Path, *lines: str) -> Path:
    file = folder / "weights.csv"
    file.write_text("\n".join(["path,weight", *lines]), "utf-8")
    return file


def test_each_image_gets_its_own_weight_whatever_the_rows_order(tmp_path: Path) -> None:
    file = written(tmp_path, "/data/1.png,0", "train/a b/é.png,2.5", '"train/c,d.png",1e-3')
    assert read_image_weights(file, PATHS).tolist() == [2.5, 0.001, 0]


def test_many_images_get_what_a_dictionary_gives_them(tmp_path: Path) -> None:
    weights = {f"{n * 7 % 1000}.png": n / 8 for n in range(1000)}
    file = written(tmp_path, *(f"{name},{weight}" for name, weight in weights.items()))
    paths = StringArray.of([f"{n}.png" for n in range(0, 1000, 3)])
    assert read_image_weights(file, paths).tolist() == [weights[path] for path in paths]


def test_rows_of_other_images_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = written(tmp_path, "1.png,1", "val/x.png,1", "val/y.png,1")
    with caplog.at_level(logging.WARNING):
        assert read_image_weights(file, PATHS[2:]).tolist() == [1]
    assert "2 of its 3 rows are of no training image" in caplog.text


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "no weight for 3 of 3 training images, such as 'train/a b/é.png'"),
        (["1.png,1"], "no weight for 2 of 3"),
        (["1.png,1", "2.png,1", "1.png,2"], "row 4 names an image that row 2 named"),
        (["1.png,1", "2.png,-1"], "row 3 is '2.png,-1': a path and a number from 0 on"),
        (["1.png,nan"], "row 2"),
        (["1.png,many"], "row 2"),
        (["1.png"], "row 2"),
    ],
)
def test_a_file_that_cannot_be_is_refused_with_the_place(tmp_path: Path, lines: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_image_weights(written(tmp_path, *lines), PATHS)


def test_a_file_without_its_header_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.csv").write_text("1.png,1\n")
    with pytest.raises(ValueError, match=r"first line is '1\.png,1': path,weight is expected"):
        read_image_weights(tmp_path / "weights.csv", PATHS)
