"""Formats the line of the progress bar and computes its figures: speed and epochs left."""

from collections import deque
from collections.abc import Sequence

WINDOW = 50  # samples that the speed is measured over
SHORTEST, LONGEST = 6, 40  # characters of the bar


class Speed:
    """Images per second over the last samples of the clock."""

    def __init__(self) -> None:
        self.images = 0
        self.samples: deque[tuple[float, int]] = deque(maxlen=WINDOW)  # (time, images so far)
        self.last: float | None = None

    def sample(self, now: float) -> None:
        self.samples.append((now, self.images))

    def pause(self) -> None:
        """Exclude the time until the next sample from the measurement."""
        self.last = self.per_second()
        self.samples.clear()

    def per_second(self) -> float | None:
        """Return the speed; None before the second sample; after a pause, the speed before the pause."""
        if len(self.samples) < 2:
            return self.last
        (start, before), (end, after) = self.samples[0], self.samples[-1]
        return (after - before) / (end - start) if end > start else self.last


def epochs_left(
    batches: float, epoch: int, batch: int, max_epochs: int | None, steps_left: int | None, accumulated: int
) -> float | None:
    """Return how many epochs are left in the run, with the part that is left of the current one; None if unknown.

    Epochs may have different numbers of batches, but all have about as many images.

    Args:
        batches: of the current epoch; infinite if unknown.
        epoch: the current epoch, counted from 0.
        batch: batches of the current epoch that are done.
        max_epochs: None or -1: no limit.
        steps_left: optimizer steps; None: no limit.
        accumulated: batches per optimizer step.
    """
    if batches == float("inf"):
        return None
    ends = [] if max_epochs is None or max_epochs < 0 else [max_epochs - epoch - batch / batches]
    ends += [] if steps_left is None else [steps_left * accumulated / batches]
    return max(min(ends), 0.0) if ends else None


def clock_text(seconds: float) -> str:
    """Return the duration as `0:43`, `12:05` or `3:12:05`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def progress_line(
    width: int,
    label: str,
    done: int,
    total: float,
    speed: float | None = None,
    seconds_left: float | None = None,
    best: str = "",
    symbols: Sequence[str] = "━─",
) -> str:
    """Return `epoch 3/10  ━━━━━━────  16/39  412 images/s  0:43 left  best val/accuracy 0.9611`.

    If the terminal is too narrow, parts are left out, the count of batches first.

    Args:
        width: the maximal number of characters.
        total: infinite if unknown.
        symbols: for the done and the remaining part of the bar.
    """
    known = total != float("inf")
    parts = {  # in display order
        "label": label,
        "bar": symbols[1] * SHORTEST if known else "",
        "count": f"{done:>{len(str(total))}}/{total}" if known else str(done),
        "speed": f"{speed:,.0f} images/s" if speed is not None else "",
        "left": f"{clock_text(seconds_left)} left" if seconds_left is not None else "",
        "best": best,
    }
    chosen, room = {"label"}, width - len(label)
    for name in ("left", "best", "speed", "bar", "count"):
        if parts[name] and len(parts[name]) + 2 <= room:
            chosen.add(name)
            room -= len(parts[name]) + 2
    length = min(SHORTEST + room, LONGEST)
    full = round(length * min(done / total, 1)) if known and total else 0
    parts["bar"] = symbols[0] * full + symbols[1] * (length - full)
    return "  ".join(text for name, text in parts.items() if name in chosen)[:width]
