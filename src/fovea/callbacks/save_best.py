"""best.ckpt: what `monitor` was best with."""

from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint


class SaveBest(ModelCheckpoint):
    """Lightning's ModelCheckpoint for one file, `folder`/best.ckpt; a moved folder keeps its score."""

    def __init__(self, folder: str, monitor: str, mode: str) -> None:
        super().__init__(folder, "best", monitor, mode=mode, save_top_k=1, enable_version_counter=False)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Lightning forgets the best score where `dirpath` differs; only a file of another run is to be forgotten."""
        here = Path(str(self.dirpath)) / "best.ckpt"
        if not here.is_file():
            return
        paths = {"dirpath": str(self.dirpath), "best_model_path": str(here), "kth_best_model_path": str(here)}
        best = {str(here): score for score in state_dict["best_k_models"].values()}
        super().load_state_dict(state_dict | paths | {"best_k_models": best})
        self.current_score = state_dict["current_score"]
