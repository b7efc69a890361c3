"""scripts/verify.py, run from the command line on data with planted faults."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import some
from PIL import Image

Invoke = Callable[..., tuple[int, str, str]]
SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "verify.py"
VERIFY = "../scripts/verify"


def picture(seed: int, width: int = 120, height: int = 90) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def photos(root: Path) -> Path:
    """Two classes of 30 different images: 20 to train, 6 to validate, 4 to test; names have spaces and accents."""
    for k, name in enumerate(("chat noir", "épagneul")):
        for n in range(30):
            split = "train" if n < 20 else "val" if n < 26 else "test"
            (root / split / name).mkdir(parents=True, exist_ok=True)
            picture(100 * k + n).save(root / split / name / f"{n} é.jpg", quality=90)
    return root


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    return photos(tmp_path / "mes photos")


@pytest.fixture
def faulty(clean: Path) -> Path:
    """The same with planted faults."""
    train, test = clean / "train", clean / "test"
    (test / "épagneul" / "copy.jpg").write_bytes((train / "chat noir" / "3 é.jpg").read_bytes())
    with Image.open(train / "chat noir" / "5 é.jpg") as image:
        image.resize((61, 45)).save(test / "chat noir" / "small copy.png")
    whole = (train / "chat noir" / "7 é.jpg").read_bytes()
    (train / "chat noir" / "cut.jpg").write_bytes(whole[: len(whole) * 2 // 3])
    (train / "chat noir" / "empty.jpg").touch()
    picture(1, 200, 1).save(train / "chat noir" / "thin.png")
    for n, color in enumerate(("white", "white", "black")):
        Image.new("RGB", (120, 90), color).save(train / "épagneul" / f"plain {n}.png")
    (train / "rare").mkdir()
    picture(999).save(train / "rare" / "only one.png")
    return clean


def verify(invoke: Invoke, output: Path, *words: str) -> tuple[int, str, str, list[dict[str, str]]]:
    code, out, err = invoke(VERIFY, f"output={output}", "data.image_size=64", "data.num_workers=0", *words)
    rows = list(csv.DictReader((output / "findings.csv").open(encoding="utf-8"))) if output.exists() else []
    return code, out, err, rows


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_every_planted_fault_is_found_and_nothing_else(
    invoke: Invoke, tmp_path: Path, faulty: Path, workers: int
) -> None:
    words = ("data=folder", f"data.root={faulty}", f"data.num_workers={workers}")
    code, out, err, rows = verify(invoke, tmp_path / "found", *words)
    assert (code, err) == (0, "")

    def name(path: str) -> str:
        return path.removeprefix(f"{faulty}/")

    found = [(row["kind"], name(row["path"]), name(row["other path"])) for row in rows]
    assert found == [
        ("unreadable", "train/chat noir/cut.jpg", ""),
        ("unreadable", "train/chat noir/empty.jpg", ""),
        ("exact duplicate", "train/chat noir/3 é.jpg", "test/épagneul/copy.jpg"),
        ("near duplicate", "train/chat noir/5 é.jpg", "test/chat noir/small copy.png"),
        ("plain image", "train/épagneul/plain 0.png", "train/épagneul/plain 1.png"),
        ("plain image", "train/épagneul/plain 2.png", ""),
        ("odd size", "train/chat noir/thin.png", ""),
        ("odd aspect ratio", "train/chat noir/thin.png", ""),
        ("small", "train/chat noir/thin.png", ""),
        ("small", "test/chat noir/small copy.png", ""),
        ("class without images", "", ""),
        ("class without images", "", ""),
        ("class with few images", "", ""),
    ]
    details = [row["detail"] for row in rows]
    assert "truncated" in details[0]
    assert details[1] == "the file is empty"
    assert details[2] == "labels: chat noir and épagneul"
    assert details[6] == "200 x 1 pixels"
    assert (rows[10]["split"], details[10], details[12]) == ("val", "rare", "rare: 1 images")
    summary = (tmp_path / "found" / "summary.txt").read_text("utf-8")
    assert summary.strip() in out
    table = {line[:22].strip(): line[22:].split() for line in summary.splitlines() if line[22:].split()}
    assert table["unreadable"] == ["2"]
    assert table["exact duplicates"] == ["2", "1", "1", "1"]
    assert table["near duplicates"] == ["2", "1", "1", "0"]
    assert table["plain images"] == ["3", "2", "0", "0"]


def test_clean_data_have_no_findings_even_if_strict(invoke: Invoke, tmp_path: Path, clean: Path) -> None:
    words = ("data=folder", f"data.root={clean}", "strict=true")
    code, out, _, rows = verify(invoke, tmp_path / "found", *words)
    assert (code, rows) == (0, [])
    assert "60 images: 40 train, 12 val, 8 test" in out


@pytest.mark.parametrize("fault", ["unreadable", "leak", "copy in one split"])
def test_strict_fails_on_an_unreadable_file_or_leakage(invoke: Invoke, tmp_path: Path, clean: Path, fault: str) -> None:
    whole = (clean / "train" / "chat noir" / "0 é.jpg").read_bytes()
    split = "val" if fault == "leak" else "train"
    (clean / split / "chat noir" / "new.jpg").write_bytes(whole[:100] if fault == "unreadable" else whole)
    code, _, _, rows = verify(invoke, tmp_path / "found", "data=folder", f"data.root={clean}", "strict=true")
    assert code == (0 if fault == "copy in one split" else 1)
    assert len(rows) == 1


@pytest.mark.parametrize(
    ("word", "expected"),
    some([("near_distance=null", 0), ("near_correlation=1", 0), ("near_distance=8", 1), ("near_distance=5", 1)]),
)
def test_near_duplicates_are_searched_as_far_as_asked(
    invoke: Invoke, tmp_path: Path, faulty: Path, word: str, expected: int
) -> None:
    rows = verify(invoke, tmp_path / "found", "data=folder", f"data.root={faulty}", word)[3]
    assert [row["kind"] for row in rows].count("near duplicate") == expected
    assert [row["kind"] for row in rows].count("exact duplicate") == 1


def test_a_packed_store_has_the_findings_of_its_files(invoke: Invoke, tmp_path: Path, faulty: Path) -> None:
    packed = ("data=folder", f"data.root={faulty}", f"output={tmp_path}/store", "data.on_error=skip", "num_workers=0")
    assert invoke("../scripts/pack", *packed)[0] == 0
    of_files = verify(invoke, tmp_path / "a", "data=folder", f"data.root={faulty}")[3]
    of_store = verify(invoke, tmp_path / "b", "data=folder", f"data.store={tmp_path}/store")[3]
    kinds = [[row["kind"] for row in rows] for rows in (of_files, of_store)]
    assert kinds[0] == kinds[1]
    assert {"train/chat noir/cut.jpg", "train/chat noir/empty.jpg"} <= {row["path"] for row in of_store}


def test_data_with_several_labels_are_verified(invoke: Invoke, tmp_path: Path, clean: Path) -> None:
    files = sorted(str(path.relative_to(clean)) for path in clean.rglob("*.jpg"))
    (clean / "copy.jpg").write_bytes((clean / files[0]).read_bytes())
    rows = [f'"{name}",{"a;b" if n % 2 else "b"},{"val" if n % 5 == 0 else "train"}' for n, name in enumerate(files)]
    (clean / "labels.csv").write_text("\n".join(["path,labels,split", *rows, "copy.jpg,c,train"]) + "\n", "utf-8")
    words = (
        "data=multilabel_csv",
        f"data.root={clean}",
        "data.read.csv=labels.csv",
        "data.read.label_column=labels",
        "data.read.separator=;",
    )
    code, out, _, found = verify(invoke, tmp_path / "found", *words)
    assert code == 0, out
    (pair,) = [row for row in found if row["kind"] == "exact duplicate"]
    assert {pair["split"], pair["other split"]} == {"train", "val"}
    assert pair["detail"] == "labels: c and b"
    assert [row["detail"] for row in found if row["kind"] == "class without images"] == ["c"]


def test_many_plain_images_are_one_cluster_of_few_rows(invoke: Invoke, tmp_path: Path, clean: Path) -> None:
    for n in range(300):
        Image.new("RGB", (60 + n % 7, 60), (n % 3, 0, 0)).save(clean / "train" / "chat noir" / f"black {n}.png")
    rows = verify(invoke, tmp_path / "found", "data=folder", f"data.root={clean}")[3]
    plain = [row for row in rows if row["kind"] == "plain image"]
    assert len(plain) == 101
    assert plain[-1]["detail"] == "and 199 more images of this cluster"


@pytest.mark.slow
def test_ctrl_c_ends_at_once_and_writes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "many"
    (root / "train" / "a").mkdir(parents=True)
    picture(0, 800, 600).save(root / "train" / "a" / "0.png")
    for n in range(1, 3000):
        os.link(root / "train" / "a" / "0.png", root / "train" / "a" / f"{n}.png")
    words = ["data=folder", f"data.root={root}", f"output={tmp_path}/found", "data.num_workers=2"]
    started = subprocess.Popen(
        [sys.executable, str(SCRIPT), *words],
        cwd=tmp_path,
        env=os.environ | {"IMAGENET_DIR": "", "DATA_DIR": str(tmp_path / "data")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    children = Path(f"/proc/{started.pid}/task/{started.pid}/children")
    while started.poll() is None and len(children.read_text().split()) < 2:
        time.sleep(0.01)
    os.killpg(started.pid, signal.SIGINT)  # a terminal sends Ctrl-C to all processes
    stopped = time.monotonic()
    _, err = started.communicate(timeout=60)
    assert time.monotonic() - stopped < 5
    assert started.returncode == 130
    assert err.splitlines()[-1] == "stopped before the check was complete: nothing was written"
    assert "Traceback" not in err
    assert not (tmp_path / "found").exists()
    with pytest.raises(ProcessLookupError):
        os.killpg(started.pid, 0)  # no process is left
