"""Names of the checkpoint files in a run folder. Imports no torch: the command line uses them too."""

from collections.abc import Sequence
from pathlib import Path

TO_RESUME = ("new.ckpt", "last.ckpt", "previous.ckpt")  # resume= takes the first of these that is not damaged
TO_EVALUATE = ("best.ckpt", *TO_RESUME)


def existing(run: Path, names: Sequence[str]) -> list[Path]:
    """Return the files with these names that exist in the run folder, in this order."""
    files = [run / "checkpoints" / name for name in names]
    return [file for file in files if file.is_file()]
