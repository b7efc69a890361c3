import csv
import json
from pathlib import Path

import pytest
import torch

from fovea.report import predictions

NAMES = ("ant", "bee, or wasp", "cat")
PROBABILITIES = torch.tensor([[0.2, 0.7, 0.1], [0.5, 0.1, 0.4]])


def test_the_most_probable_classes_come_first() -> None:
    rows = predictions.top_k_rows(["x", "y"], PROBABILITIES, NAMES, k=2)
    assert rows[0] == {"path": "x", "label": "bee, or wasp", "probability": 0.7, "label_2": "ant", "probability_2": 0.2}
    assert [row["label_2"] for row in rows] == ["ant", "cat"]
    assert "label_4" not in predictions.top_k_rows(["x", "y"], PROBABILITIES, NAMES, k=9)[0]


def test_multilabel_rows_list_the_classes_from_the_threshold_on() -> None:
    rows = predictions.multilabel_rows(["x", "y"], PROBABILITIES, NAMES, threshold=0.4)
    assert [row["labels"] for row in rows] == ["bee, or wasp", "ant;cat"]


def test_an_image_is_rejected_by_its_probability_before_rounding() -> None:
    probabilities = torch.tensor([[0.6999996, 0.3000004, 0.0], [0.7000004, 0.2999996, 0.0]])
    rows = predictions.top_k_rows(["x", "y"], probabilities, NAMES, k=1)
    assert {row["probability"] for row in rows} == {0.7}
    assert predictions.reject(rows, probabilities, 0.7) == 1
    assert [row["label"] for row in rows] == ["unknown", "ant"]


def test_the_most_frequent_labels_are_counted() -> None:
    assert predictions.most_frequent([{"label": "x"}, {"label": "b c"}, {"label": "x"}], most=1) == "x (2)"
    assert predictions.most_frequent([{"labels": "a;b"}, {"labels": "b"}, {"labels": ""}]) == "b (2)  a (1)"
    assert predictions.most_frequent([{"labels": ""}]) == "none"


@pytest.mark.parametrize("ending", [".csv", ".json", ".parquet"])
def test_a_table_reads_back(tmp_path: Path, ending: str) -> None:
    rows = predictions.with_probabilities(
        predictions.multilabel_rows(["é x", "y"], PROBABILITIES, NAMES, 0.4), PROBABILITIES, NAMES
    )
    file = tmp_path / f"out{ending}"
    predictions.check_output(file)
    predictions.write(file, rows)
    if ending == ".csv":
        back = list(csv.DictReader(file.open(encoding="utf-8")))
    elif ending == ".json":
        back = json.loads(file.read_text("utf-8"))
    else:
        back = pytest.importorskip("pyarrow.parquet").read_table(file).to_pylist()
    assert [row["path"] for row in back] == ["é x", "y"]
    assert [float(row["p(bee, or wasp)"]) for row in back] == pytest.approx([0.7, 0.1])


def test_the_folder_of_the_output_is_created_only_to_write_predictions(tmp_path: Path) -> None:
    file = tmp_path / "made" / "deep" / "out.csv"
    predictions.check_output(file)
    assert not file.parent.exists()
    predictions.write(file, [{"path": "a"}])
    assert file.read_text() == "path\na\n"


@pytest.mark.parametrize("name", ["x.txt", "a file/x.csv", "folder.csv"])
def test_an_output_that_cannot_be_written_is_refused_before_predicting(tmp_path: Path, name: str) -> None:
    (tmp_path / "a file").touch()
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ValueError, match="output="):
        predictions.check_output(tmp_path / name)


def test_shuffled_batches_are_sorted_by_index() -> None:
    none = torch.tensor([], dtype=torch.long)
    batches = [(PROBABILITIES, torch.tensor([3, 1]), torch.tensor([2])), (PROBABILITIES[:1], torch.tensor([0]), none)]
    probabilities, indices, unreadable = predictions.sort_by_index(batches)
    assert indices.tolist() == [0, 1, 3]
    assert unreadable.tolist() == [2]
    torch.testing.assert_close(probabilities[1:], PROBABILITIES.flip(0))
