import logging
from pathlib import Path

import pytest

from fovea.data.loading.image_weights import read_image_weights
from fovea.data.string_array import StringArray

NAMES = ["train/a b/é.png", "train/c,d.png", "1.png"]
PATHS = StringArray.of([f"/data/{name}" for name in NAMES], "/data/")


def write(folder: Path, *lines: str) -> Path:
    file = folder / "weights.csv"
    file.write_text("\n".join(["path,weight", *lines]), "utf-8")
    return file


def test_weights_are_found_by_path_in_any_row_order(tmp_path: Path) -> None:
    file = write(tmp_path, "/data/1.png,0", "train/a b/é.png,2.5", '"train/c,d.png",1e-3')
    assert read_image_weights(file, PATHS).tolist() == [2.5, 0.001, 0]


def test_many_weights_match_a_dictionary(tmp_path: Path) -> None:
    weights = {f"{n * 7 % 1000}.png": n / 8 for n in range(1000)}
    file = write(tmp_path, *(f"{name},{weight}" for name, weight in weights.items()))
    paths = StringArray.of([f"{n}.png" for n in range(0, 1000, 3)])
    assert read_image_weights(file, paths).tolist() == [weights[path] for path in paths]


def test_rows_for_other_images_give_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = write(tmp_path, "1.png,1", "val/x.png,1", "val/y.png,1")
    with caplog.at_level(logging.WARNING):
        assert read_image_weights(file, PATHS[2:]).tolist() == [1]
    assert "2 of its 3 rows are not training images" in caplog.text


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "no weight for 3 of 3 training images, such as 'train/a b/é.png'"),
        (["1.png,1"], "no weight for 2 of 3"),
        (["1.png,1", "2.png,1", "1.png,2"], "rows 2 and 4 are the same image"),
        (["1.png,1", "2.png,-1"], "row 3 is '2.png,-1': expected a path and a number >= 0"),
        (["1.png,nan"], "row 2"),
        (["1.png,many"], "row 2"),
        (["1.png"], "row 2"),
    ],
)
def test_an_invalid_file_is_an_error_that_names_the_row(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_image_weights(write(tmp_path, *lines), PATHS)


def test_a_file_without_a_header_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "weights.csv").write_text("1.png,1\n")
    with pytest.raises(ValueError, match=r"first line is '1\.png,1' but must be path,weight"):
        read_image_weights(tmp_path / "weights.csv", PATHS)
