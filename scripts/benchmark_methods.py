"""Compare methods by whole trainings with several seeds, on CIFAR-10.

    python scripts/benchmark_methods.py long_tail --root <folder> [--epochs 20] [--seeds 3] [--jobs 2]
    python scripts/benchmark_methods.py fine_tuning --root <folder> [--classes deer,horse] [--images 50]
    python scripts/benchmark_methods.py distillation --root <folder> [overrides of src/train.py]
    python scripts/benchmark_methods.py cifar10 --root <folder> --threads 2
    python scripts/benchmark_methods.py precision --root <folder> --threads 2

<folder> has CIFAR-10 as image files: train/<class>/0000.png and so on, as scripts/write_cifar10.py writes them.

long_tail: treatments of class imbalance, with conf/experiment/cifar10_lt_small.yaml.
fine_tuning: a ResNet-20 learns from all images of the eight classes that --classes does not name, and then from
    --images training images of each of the two others, which are tested.
distillation: a ResNet-8 on all of CIFAR-10, without and with a teacher, a ResNet-20 of seed 0.
cifar10: cifar10_fast and cifar10_fast_muon of conf/experiment, each also tested with mirrored and with shifted images.
precision: a short training of a narrower network in float32, in bfloat16, and both compiled.

The weights of the last epoch are tested, so the test chooses nothing. Seconds are those from the start of train.py to
the end of its test.

Each training is src/train.py in a folder of its own, <output>/<method>/<seed>, with --threads threads; --jobs run at
once. All methods are trained with seed 0, then with seed 1, and so on, so that a change of the machine's load meets all
of them; those that start from another run come last. The same command goes on where it was stopped, and does not repeat
what is finished. At the end it prints means and standard deviations over the seeds. The column "deviations" is the
difference of the second column from that of one method (cross_entropy, full, student, ...), divided by the root of the
mean of both variances.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import permutations, product
from pathlib import Path
from typing import NamedTuple

from fovea.config import untrusted
from fovea.leaderboard.groups import Figure, figure
from fovea.runs.results_file import results_of

PROJECT = Path(__file__).resolve().parents[1]
FIRST = "{first}"  # in the words of a method: the folder of the run that it starts from


class Method(NamedTuple):
    """What is typed for a method.

    Attributes:
        words: the overrides.
        after: the method whose run of the same seed it starts from; its folder replaces FIRST.
        program: in src/.
        once: it is run with seed 0 only, and serves all seeds.
    """

    words: Sequence[str] = ()
    after: str | None = None
    program: str = "train"
    once: bool = False


class Comparison(NamedTuple):
    """What is compared.

    Attributes:
        methods: by name.
        baseline: the method that the others are compared with, by the second column.
        columns: the table's columns: title -> a figure of `Tested`.
    """

    methods: dict[str, Method]
    baseline: str
    columns: dict[str, str]


RARE = {
    "accuracy": "accuracy",
    "balanced": "balanced_accuracy",
    "as in training": "as_in_training",
    "calibration error": "calibration_error",
}
TIMED = {"accuracy": "accuracy", "of averages": "ema_accuracy", "seconds": "seconds", "images/s": "images_per_second"}

LONG_TAIL = Comparison(
    {
        "cross_entropy": Method(),
        "class_weights": Method(("imbalance=class_weights",)),
        "sampler": Method(("imbalance=sampler",)),
        "logit_adjustment": Method(("imbalance=logit_adjustment",)),
        "ldam_drw": Method(("imbalance=ldam_drw",)),
        "deferred_weights": Method(("callbacks=[last_epoch,deferred_weights]", "loss.class_weights=effective")),
        "mixup": Method(("mixing=mixup",)),
        "focal": Method(("loss=focal",)),
        "post_hoc": Method((f"run={FIRST}", "logit_adjustment=1", "report=false"), "cross_entropy", "evaluate"),
    },
    "cross_entropy",
    RARE,
)
NETWORK = ("model=cifar_resnet", "data.image_size=32", "augment=crop", "callbacks=last_epoch", "scheduler=one_cycle")
FAST = ("trainer.precision=bf16-mixed", "data.resident=true", "data.num_workers=0", "data.batch_size=128")
METRICS = ("metrics=[multiclass,balanced_accuracy,calibration_error]",)


def long_tail(given: argparse.Namespace) -> Comparison:
    """Return the treatments with what all of them have in common."""
    common = ("experiment=cifar10_lt_small", f"data.root={given.root}", f"trainer.max_epochs={given.epochs or 20}")
    return _with_common(LONG_TAIL, common, "train")


def fine_tuning(given: argparse.Namespace) -> Comparison:
    """Write the tables of both parts of the data, and return the ways to fine-tune."""
    tables = write_tables(given.root, given.classes.split(","), given.images, given.output)
    data = {name: ("data=csv", f"data.root={given.root}", f"data.read.csv={file}") for name, file in tables.items()}
    few = [*data["few"], *NETWORK, *METRICS, "model.depth=20", "data.batch_size=10", "data.num_workers=0"]
    few += [f"trainer.max_epochs={given.epochs or 30}", "trainer.log_every_n_steps=5", "optimizer.lr=0.01"]
    start = [*few, f"weights={FIRST}/checkpoints/last.ckpt"]
    many = [*data["many"], *NETWORK, *FAST, *METRICS, "model.depth=20", "optimizer.lr=0.1"]
    many += [f"trainer.max_epochs={given.pretraining_epochs}"]
    methods = {
        "from_scratch": Method(few),
        "pretraining": Method(many),
        "head_only": Method([*start, "freeze=backbone"], "pretraining"),
        "full": Method(start, "pretraining"),
        "layer_decay": Method([*start, "parameter_groups=layer_decay"], "pretraining"),
    }
    return Comparison(methods, "full", RARE)


def distillation(given: argparse.Namespace) -> Comparison:
    """Return the student with and without its teacher."""
    common = ["data=cifar10", f"data.root={given.root}", "data.val_fraction=0.02", *NETWORK, *FAST, *METRICS]
    common += [f"trainer.max_epochs={given.epochs or 15}", "optimizer.lr=0.1"]
    taught = ["model.depth=8", "objective=distillation", f"objective.teacher={FIRST}"]
    methods = {
        "teacher": Method(("model.depth=20",), once=True),
        "student": Method(("model.depth=8",)),
        "distilled": Method(taught, "teacher"),
    }
    return _with_common(Comparison(methods, "student", RARE), common, "train")


def cifar10(given: argparse.Namespace) -> Comparison:
    """Return the fast recipes, each with its own test and those with more views of an image."""
    length = (f"trainer.max_epochs={given.epochs}",) if given.epochs else ()
    methods = {}
    for name, experiment in (("sgd", "cifar10_fast"), ("muon", "cifar10_fast_muon")):
        methods[name] = Method((f"experiment={experiment}", f"data.root={given.root}", *length))
        for views, tta in (("flips", "flip"), ("shifts", "flip_shift")):
            methods[f"{name}_{views}"] = Method((f"run={FIRST}", f"tta={tta}", "report=false"), name, "evaluate")
    return Comparison(methods, "sgd", TIMED)


def precision(given: argparse.Namespace) -> Comparison:
    """Return the fast recipe with a small network, in each precision, compiled and not."""
    length = f"trainer.max_epochs={given.epochs or 4}"
    common = ("experiment=cifar10_fast", f"data.root={given.root}", "model.widths=[32,64,64]", length)
    bf16, compiled = "trainer.precision=bf16-mixed", "compile=true"
    methods = {
        "float32": Method(("trainer.precision=null",)),
        "bf16": Method((bf16,)),
        "float32_compiled": Method(("trainer.precision=null", compiled)),
        "bf16_compiled": Method((bf16, compiled)),
    }
    return _with_common(Comparison(methods, "float32", TIMED), common, "train")


COMPARISONS: dict[str, Callable[[argparse.Namespace], Comparison]] = {
    "long_tail": long_tail,
    "fine_tuning": fine_tuning,
    "distillation": distillation,
    "cifar10": cifar10,
    "precision": precision,
}


def _with_common(comparison: Comparison, words: Sequence[str], program: str) -> Comparison:
    """Return the comparison with `words` before those of each method that this program runs."""
    methods = {
        name: one._replace(words=(*words, *one.words)) if one.program == program else one
        for name, one in comparison.methods.items()
    }
    return comparison._replace(methods=methods)


def write_tables(root: Path, few: Sequence[str], images: int, folder: Path) -> dict[str, Path]:
    """Write a table of a few images of some classes, and one of all images of the other classes.

    Args:
        root: the folder of the images.
        few: the classes of the first table.
        images: of each of them, to train; as many others validate.
        folder: of the tables.

    Returns:
        the files, by the names few and many.
    """
    names = sorted(path.name for path in (root / "train").iterdir())
    if unknown := set(few) - set(names):
        sys.exit(f"--classes: {root / 'train'} has no {', '.join(sorted(unknown))}; it has {', '.join(names)}")
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: folder / f"{name}.csv" for name in ("few", "many")}
    for table, file in files.items():
        with file.open("w", newline="", encoding="utf-8") as out:
            rows = csv.writer(out)
            rows.writerow(["path", "label", "split"])
            for name in names:
                if (name in few) == (table == "few"):
                    train = sorted((root / "train" / name).iterdir())
                    chosen = train[:images] if table == "few" else train[: -len(train) // 50]
                    held_out = train[images : 2 * images] if table == "few" else train[-len(train) // 50 :]
                    parts = {"train": chosen, "val": held_out, "test": sorted((root / "test" / name).iterdir())}
                    rows.writerows((path.relative_to(root), name, part) for part in parts for path in parts[part])
    return files


class Runner:
    """Runs methods in processes of their own, several at once, each after the one that it starts from."""

    def __init__(self, comparison: Comparison, output: Path, threads: int, jobs: int, overrides: Sequence[str]) -> None:
        self.comparison, self.output, self.overrides = comparison, output, overrides
        self.environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        self.pool = ThreadPoolExecutor(jobs)
        self.started: dict[Path, Future[None]] = {}

    def start(self, name: str, seed: int) -> Future[None]:
        """Start a method's run, and before it the run that it starts from."""
        method, folder = self.comparison.methods[name], self.folder(name, seed)
        if folder not in self.started:
            first = self.start(method.after, seed) if method.after else None
            self.started[folder] = self.pool.submit(self._run, name, seed, first)
        return self.started[folder]

    def folder(self, name: str, seed: int) -> Path:
        """Return the folder of a run."""
        return self.output / name / str(0 if self.comparison.methods[name].once else seed)

    def _run(self, name: str, seed: int, first: Future[None] | None) -> None:
        """Run it, or go on with it, unless it is finished; raise RuntimeError if it fails."""
        if first is not None:
            first.result()  # was started before, so it has a thread or is done
        method, folder = self.comparison.methods[name], self.folder(name, seed)
        if results_of(folder).get("status") == "finished":
            return
        start = time.monotonic()
        words = [f"resume={folder}"] if typed_before(folder) else self._words(name, seed)
        command = [sys.executable, str(PROJECT / "src" / f"{method.program}.py"), *words]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{folder}: exit code {done.returncode}\n{done.stdout[-500:]}{done.stderr[-1500:]}")
        print(f"{name}, seed {seed}: {time.monotonic() - start:.0f} s", flush=True)

    def _words(self, name: str, seed: int) -> list[str]:
        method = self.comparison.methods[name]
        first = str(self.folder(method.after, seed)) if method.after else ""
        words = [word.replace(FIRST, first) for word in method.words]
        if method.program == "train":
            words += ["report=false", "logger=csv", f"seed={0 if method.once else seed}", *self.overrides]
        return [*words, f"hydra.run.dir={self.folder(name, seed)}"]

    def check(self, names: Sequence[str], seeds: int) -> None:
        """Exit with a message if a run that is there had other options."""
        for name, seed in product(names, range(seeds)):
            before, words = typed_before(self.folder(name, seed)), self._words(name, seed)
            if before is not None and before != words:
                then, now = (" ".join(sorted(set(own) - set(other))) for own, other in permutations((before, words)))
                sys.exit(
                    f"{self.folder(name, seed)} was trained with {then or 'nothing more'} instead of "
                    f"{now or 'nothing more'}: choose another --output, or remove the folder"
                )

    def errors(self, names: Sequence[str], seeds: int) -> list[str]:
        """Run the methods with all seeds, and return the errors of those that failed."""
        methods = self.comparison.methods
        parts = [[name for name in names if bool(methods[name].after) == waits] for waits in (False, True)]
        try:
            runs = [self.start(name, seed) for part in parts for seed in range(seeds) for name in part]
            return list(dict.fromkeys(str(error) for run in runs if (error := run.exception())))
        except KeyboardInterrupt:
            self.pool.shutdown(cancel_futures=True)  # the trainings get the signal too, and save
            raise


def typed_before(folder: Path) -> list[str] | None:
    """Return what was typed for the run in the folder; None if none began, or if it is an evaluation."""
    file = folder / "provenance.json"
    return json.loads(file.read_text("utf-8"))["starts"][0]["argv"][1:] if file.is_file() else None


class Tested(NamedTuple):
    """What a run gave: its test figures and its speed by name, and the recall of each class; None if undefined."""

    figures: dict[str, float | None]
    recalls: dict[str, float | None]


def tested(folder: Path) -> Tested:
    """Read the files of a finished run or evaluation.

    `as_in_training` is the accuracy on test images whose classes are as frequent as in training: the sum over the
    classes of share times recall. It is left out if the recall of a class is undefined, as no image of it was tested.
    """
    with (folder / "per_class.csv").open(newline="", encoding="utf-8") as rows:
        recalls = {row["class"]: float(row["recall"]) if row["recall"] else None for row in csv.DictReader(rows)}
    counts, results = untrusted.read(folder / "config.yaml")["class_counts"]["present"], results_of(folder)
    figures = dict(results["test"])
    defined = [recall for recall in recalls.values() if recall is not None]
    if len(defined) == len(counts):
        weighted = sum(count * recall for count, recall in zip(counts, defined, strict=True))
        figures["as_in_training"] = weighted / sum(counts)
    if "train_images_per_second" in results:  # not an evaluation
        figures |= {"seconds": results["seconds"], "images_per_second": results["train_images_per_second"]}
    return Tested(figures, recalls)


def print_tables(found: Mapping[str, Sequence[Tested]], baseline: str, columns: Mapping[str, str]) -> None:
    """Print the figures of each method, and the recall of each class."""
    width, second = max(map(len, found)), list(columns.values())[1]
    print(f"\n{'method':{width}}  n  {'  '.join(f'{title:>17}' for title in (*columns, 'deviations'))}")
    of_baseline = figure(one.figures.get(second) for one in found.get(baseline, ()))
    for name, runs in found.items():
        figures = {key: figure(one.figures.get(key) for one in runs) for key in columns.values()}
        cells = [cell(one) for one in figures.values()]
        is_compared = name != baseline and same_classes(runs, found.get(baseline, ()))
        cells.append(difference(figures[second], of_baseline) if is_compared else "")
        print(f"{name:{width}}  {len(runs)}  {'  '.join(f'{text:>17}' for text in cells)}")
    classes = list(dict.fromkeys(name for runs in found.values() for name in runs[0].recalls))
    print(f"\n{'recall':{width}}  {'  '.join(f'{name:>10}' for name in classes)}")
    for name, runs in found.items():
        means = {key: figure(one.recalls[key] for one in runs) for key in runs[0].recalls}
        texts = [f"{of_class.mean:.3f}" if (of_class := means.get(key)) else "" for key in classes]
        print(f"{name:{width}}  {'  '.join(f'{text:>10}' for text in texts)}")


def same_classes(runs: Sequence[Tested], others: Sequence[Tested]) -> bool:
    """Return whether the runs were tested on the same classes."""
    return len({frozenset(one.recalls) for one in (*runs, *others)}) == 1


def cell(one: Figure | None) -> str:
    """Return mean and deviation as text."""
    if one is None:
        return ""
    digits = 4 if abs(one.mean) < 10 else 1
    return f"{one.mean:.{digits}f}" + ("" if one.deviation is None else f" ± {one.deviation:.{digits}f}")


def difference(one: Figure | None, baseline: Figure | None) -> str:
    """Return the difference of two means divided by the root of the mean of both variances, as text."""
    if not one or not baseline or one.deviation is None or baseline.deviation is None:
        return ""
    deviation = ((one.deviation**2 + baseline.deviation**2) / 2) ** 0.5
    return f"{(one.mean - baseline.mean) / deviation:+.1f}" if deviation else ""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("comparison", choices=list(COMPARISONS))
    options.add_argument("--root", type=Path, required=True, help="the folder of CIFAR-10's image files")
    options.add_argument("--epochs", type=int, help="of each training but the pretraining; default: 20, 30 or 15")
    options.add_argument("--seeds", type=int, default=3, help="their number")
    options.add_argument("--only", help="only these methods, joined by commas, and those that they start from")
    options.add_argument("--jobs", type=int, default=1, help="runs at once")
    options.add_argument("--threads", type=int, default=1, help="of each run")
    options.add_argument("--output", type=Path, help="the folder of the runs; default: runs/<comparison>")
    options.add_argument("--classes", default="deer,horse", help="fine_tuning: the classes with few images")
    options.add_argument("--images", type=int, default=50, help="fine_tuning: training images of each of them")
    options.add_argument("--pretraining-epochs", type=int, default=10, help="fine_tuning: on the other classes")
    options.add_argument("overrides", nargs="*", help="of src/train.py, for all trainings")
    return options


def main() -> None:
    """Train what is not finished, and print the tables."""
    given = parser().parse_intermixed_args()
    given.root = given.root.expanduser().resolve()
    given.output = (given.output or PROJECT / "runs" / given.comparison).expanduser().resolve()
    if not (given.root / "train").is_dir():
        sys.exit(f"--root={given.root} has no folder train")
    comparison = COMPARISONS[given.comparison](given)
    names = given.only.split(",") if given.only else list(comparison.methods)
    if unknown := set(names) - comparison.methods.keys():
        sys.exit(f"--only: no method {', '.join(sorted(unknown))}; there are {', '.join(comparison.methods)}")
    runner = Runner(comparison, given.output, given.threads, given.jobs, given.overrides)
    runner.check(names, given.seeds)
    failed = runner.errors(names, given.seeds)
    found: dict[str, list[Tested]] = {}
    for name in names:
        folders = dict.fromkeys(runner.folder(name, seed) for seed in range(given.seeds))
        finished = [folder for folder in folders if results_of(folder).get("status") == "finished"]
        found |= {name: [tested(folder) for folder in finished]} if finished else {}
    if found:
        print_tables(found, comparison.baseline, comparison.columns)
    if failed:
        sys.exit("\n" + "\n".join(failed))


if __name__ == "__main__":
    main()
