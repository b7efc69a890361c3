import csv
import io
from pathlib import Path
from typing import Any

import pytest
import torch

from fovea.data.sources.image_paths import missing_files
from fovea.data.sources.multilabel_csv import read_multilabel_csv

COLUMNS = "path,cat,split,dog\na.jpg,1,train,0\nb/c.jpg,-1,val,1\nd.jpg,,train,1.0\ne.jpg,0.0,test,-1.0\n"
IMAGES = ("a.jpg", "b/c.jpg", "d.jpg", "e.jpg")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in IMAGES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def write(root: Path, text: str, encoding: str = "utf-8") -> Path:
    (root / "labels.csv").write_bytes(text.encode(encoding))
    return root


def test_one_column_per_class_gives_present_absent_or_unknown_in_column_order(root: Path) -> None:
    splits = read_multilabel_csv(write(root, COLUMNS))
    assert splits.task == "multilabel"
    assert splits.class_names == ("cat", "dog")
    assert splits.train.paths == [str(root / "a.jpg"), str(root / "d.jpg")]
    assert splits.train.targets.tolist() == [[1, 0], [-1, 1]]
    assert splits.val.paths == [str(root / "b/c.jpg")]
    assert splits.val.targets.tolist() == [[-1, 1]]
    assert splits.test.targets.tolist() == [[0, -1]]
    assert splits.train.targets.dtype == torch.int8


def test_listed_names_are_present_and_all_others_are_absent(root: Path) -> None:
    rows = ["split,path,note,tags", "train,a.jpg,x,dog ant", "val,b/c.jpg,x,", "train,d.jpg,x,ant"]
    text = "\n".join([*rows, "test,e.jpg,x, zebra  dog"])
    splits = read_multilabel_csv(write(root, text), label_column="tags", separator=" ")
    assert splits.class_names == ("ant", "dog", "zebra")
    assert splits.train.targets.tolist() == [[1, 1, 0], [1, 0, 0]]
    assert splits.val.targets.tolist() == [[0, 0, 0]]
    assert splits.test.targets.tolist() == [[0, 1, 1]]
    assert splits.train.targets.dtype == torch.int8


def test_names_may_contain_spaces_with_another_separator(root: Path) -> None:
    text = 'path,tags\na.jpg,"polar bear, cat"\nd.jpg,cat\n'
    splits = read_multilabel_csv(write(root, text), label_column="tags", separator=",")
    assert splits.class_names == ("cat", "polar bear")
    assert splits.train.targets.tolist() == [[1, 1], [1, 0]]


def test_without_a_split_column_every_row_is_train(root: Path) -> None:
    splits = read_multilabel_csv(write(root, "path,cat\na.jpg,1\nd.jpg,0\n"))
    assert len(splits.train) == 2
    assert splits.val is None
    assert splits.test is None


@pytest.mark.parametrize("word", ["val", "valid", "validation"])
def test_the_validation_split_may_have_three_names(root: Path, word: str) -> None:
    splits = read_multilabel_csv(write(root, f"path,split,cat\na.jpg,train,1\nd.jpg,{word},0\n"))
    assert splits.val.paths == [str(root / "d.jpg")]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_delimiters_line_ends_and_encodings_read_the_same(root: Path, delimiter: str, end: str, encoding: str) -> None:
    rows = [line.split(",") for line in COLUMNS.splitlines()]
    rows[0][1] = name = f'Bär{delimiter} "groß"'
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter, lineterminator=end).writerows(rows)
    splits = read_multilabel_csv(write(root, stream.getvalue() + end, encoding))
    assert splits.class_names == (name, "dog")
    assert splits.train.targets.tolist() == [[1, 0], [-1, 1]]


def test_spaces_after_commas_are_ignored(root: Path) -> None:
    splits = read_multilabel_csv(write(root, "path, split, cat\na.jpg, train, 1\nd.jpg, train, 0\n"))
    assert splits.class_names == ("cat",)
    assert splits.train.targets.tolist() == [[1], [0]]


def test_other_column_names_another_file_and_absolute_paths(root: Path) -> None:
    (root / "other.csv").write_text(f"file,fold,cat\n{root / 'a.jpg'},train,1\nb/../d.jpg,test,0\n")
    splits = read_multilabel_csv(root, csv="other.csv", path_column="file", split_column="fold")
    assert splits.train.paths == [str(root / "a.jpg")]
    assert splits.test.paths == [str(root / "d.jpg")]
    assert splits.class_names == ("cat",)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("file,cat\na.jpg,1\n", "no column 'path'; its columns are file, cat"),
        (
            "path,split,cat\na.jpg,train,1\nd.jpg,train,yes\n",
            "line 3, column 'cat': 'yes' is not a label(.|\n)*Write 1",
        ),
        ("path,split,cat\na.jpg,train,2\n", "line 2, column 'cat': '2' is not a label"),
        ("path,split,cat\na.jpg,holdout,1\n", "1 values are not a split: 'holdout' \\(1 rows\\)(.|\n)*split_values="),
        (
            "path,cat\na.jpg,1\nx.jpg,0\nb/y.jpg,0\nno/z.jpg,0\nw.jpg,0\n",
            "4 of 5 images are missing(.|\n)*line 3: .*x.jpg",
        ),
        ("path,cat\n../a.jpg,1\n", r"line 2: '\.\./a.jpg' points outside"),
        ("path,cat\nb/../../a.jpg,1\n", "line 2: .* points outside"),
        ("path,cat\na.jpg,1,1\n", "line 2: 3 fields; the header has 2"),
        ("path,cat,cat\na.jpg,1,1\n", "must not be repeated or empty: 'cat'"),
        ("path,part,cat,note\na.jpg,test,1,x\n", "the same for 'note' \\('x'\\)(.|\n)*split_column=part"),
        ("path,cat,dog\na.jpg,1,-1\nd.jpg,1,\n", "no label is 0 .absent., and 2 labels (.|\n)*Write 0"),
        ("path,is_test\na.jpg,1\n", "no class columns"),
        ("path,split\na.jpg,train\n", "no class columns"),
        ("path,cat\n", "a header but no rows"),
        ("", "is empty"),
        ('path,cat\n"a.jpg,1\n', "is not CSV in UTF-8"),
    ],
)
def test_a_mistake_in_the_file_gives_an_error_of_few_lines(root: Path, text: str, match: str) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        read_multilabel_csv(write(root, text))
    assert str(root / "labels.csv") in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 6


def test_a_file_in_another_encoding_is_an_error(root: Path) -> None:
    with pytest.raises(ValueError, match=r"labels.csv is not CSV in UTF-8"):
        read_multilabel_csv(write(root, "path,Bär\na.jpg,1\n", "latin-1"))


def test_a_missing_file_is_an_error(root: Path) -> None:
    with pytest.raises(ValueError, match=r"labels.csv does not exist"):
        read_multilabel_csv(root)


@pytest.mark.parametrize("columns", [{"label_column": "tags"}, {"split_column": "fold"}])
def test_a_column_given_by_name_must_exist(root: Path, columns: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"no column '{next(iter(columns.values()))}'"):
        read_multilabel_csv(write(root, "path,cat\na.jpg,1\n"), **columns)


def test_an_empty_label_column_is_an_error(root: Path) -> None:
    with pytest.raises(ValueError, match="column 'tags' is empty in every row"):
        read_multilabel_csv(write(root, "path,tags\na.jpg,\n"), label_column="tags", separator=" ")


def test_missing_files_matches_a_check_of_each_file(root: Path) -> None:
    paths = [str(root / name) for name in (*IMAGES, "b/a.jpg", "c.jpg", "no/a.jpg", "a.jpg/x")]
    assert missing_files(paths) == [path for path in paths if not Path(path).exists()]
    assert len(missing_files(paths)) == 4


def test_many_rows_match_a_plain_loop(root: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    wanted = torch.randint(-1, 2, (500, 7), generator=generator).tolist()
    for i in range(500):
        (root / f"{i}.jpg").touch()
    rows = [f"{i}.jpg," + ",".join(str(value) for value in row) for i, row in enumerate(wanted)]
    targets = read_multilabel_csv(write(root, "path,a,b,c,d,e,f,g\n" + "\n".join(rows))).train.targets
    assert targets.tolist() == wanted


def test_a_file_whose_rows_are_all_test_has_no_train(root: Path) -> None:
    (root / "labels.csv").write_text("path,split,cat\na.jpg,test,1\nd.jpg,test,0\n")
    splits = read_multilabel_csv(root)
    assert splits.train is None
    assert splits.test is not None
    assert splits.test.targets.tolist() == [[1], [0]]


def test_a_single_class_column_is_allowed(root: Path) -> None:
    splits = read_multilabel_csv(write(root, "path,tumor\na.jpg,1\nd.jpg,0\ne.jpg,True\n"))
    assert splits.class_names == ("tumor",)
    assert splits.train.targets.tolist() == [[1], [0], [1]]


def test_split_columns_and_row_numbers_are_not_classes(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = ",ID,path,Split,cat,is_valid\n0,1,a.jpg,train,1,0\n1,1,d.jpg,TEST,0,1\n"
    with pytest.raises(ValueError, match=r"these columns the split\?\n.*'Split': 1 'train', 1 'TEST' \(test\)"):
        read_multilabel_csv(write(root, text))
    splits = read_multilabel_csv(root, split_column="Split")
    assert splits.class_names == ("cat",)
    assert splits.test.paths == [str(root / "d.jpg")]
    assert "columns ['', 'ID'] look like row numbers and are ignored" in caplog.text
    assert "'is_valid' looks like a split and is not used: 1 '0' (train), 1 '1' (val)" in caplog.text


def test_class_columns_can_be_chosen_among_others(root: Path) -> None:
    text = "path,age,dog,set,cat\na.jpg,61,1,0,1\nd.jpg,7,0,1,0\n"
    splits = read_multilabel_csv(write(root, text), class_columns=["cat", "set"])
    assert splits.class_names == ("cat", "set")
    assert splits.train.targets.tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("first", "second", "third", "separator"),
    [
        ("Effusion|Mass", "No Finding", "Mass", "|"),
        ("cat;polar bear", "polar bear", "cat", ";"),
        ("dog ant", "ant", "zebra dog", " "),
        ("['cat', 'dog']", "[]", "['cat']", "list"),
        ("polar bear", "cat", "dog", "none"),
    ],
)
def test_a_missing_separator_is_an_error_that_proposes_one(
    root: Path, first: str, second: str, third: str, separator: str
) -> None:
    write(root, f'path,tags\na.jpg,"{first}"\nd.jpg,"{second}"\ne.jpg,"{third}"\n')
    with pytest.raises(ValueError, match="what separates the names in column 'tags'") as caught:
        read_multilabel_csv(root, label_column="tags")
    assert f"first values are {first!r}" in str(caught.value)
    assert f"'data.read.separator=\"{separator}\"'" in str(caught.value)
    assert read_multilabel_csv(root, label_column="tags", separator=separator).train.targets.sum() >= 3


def test_names_that_contain_the_right_separator_are_an_error_that_names_it(root: Path) -> None:
    write(root, "path,tags\na.jpg,Effusion|Mass\nd.jpg,No Finding\ne.jpg,Mass\nb/c.jpg,Effusion\n")
    with pytest.raises(ValueError, match=r"1 images have 1 names, such as 'Effusion\|Mass'.*\n.*separator=\"\|\""):
        read_multilabel_csv(root, label_column="tags", separator=" ")


def test_python_and_json_lists_are_read_only_with_separator_list(root: Path) -> None:
    rows = ["path;tags", "a.jpg;['cat', 'dog']", 'd.jpg;["cat"]', "e.jpg;[]", "b/c.jpg;"]
    write(root, "\n".join(row.replace('"', '""').replace(";[", ';"[').replace("]", ']"') for row in rows))
    for separator in (" ", ","):
        with pytest.raises(ValueError, match=r"brackets or quotes(.|\n)*separator=\"list\""):
            read_multilabel_csv(root, label_column="tags", separator=separator)
    splits = read_multilabel_csv(root, label_column="tags", separator="list")
    assert splits.class_names == ("cat", "dog")
    assert splits.train.targets.tolist() == [[1, 1], [1, 0], [0, 0], [0, 0]]


def test_the_classes_of_lists_are_logged_with_counts(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    write(root, "path,tags\na.jpg,cat dog\nd.jpg,\ne.jpg,cat cat\n")
    read_multilabel_csv(root, label_column="tags", separator=" ")
    assert "2 classes in 3 images, 1 of them with no class: 'cat' 2, 'dog' 1" in caplog.text


def test_a_missing_value_is_not_a_class(root: Path) -> None:
    write(root, "path,tags\na.jpg,cat\nd.jpg,nan\ne.jpg,NaN\n")
    with pytest.raises(
        ValueError, match=r"'tags': 2 rows have no label \('nan' in 1, 'NaN' in 1\), first in lines 3, 4"
    ):
        read_multilabel_csv(root, label_column="tags", separator="|")
