"""The one line of the progress bar, and what it needs to know: speed and time left."""

from collections import deque
from collections.abc import Sequence

WINDOW = 50  # looks at the clock that the speed is measured over
LEAST, MOST = 6, 40  # characters of the bar


class Speed:
    """Images a second over the last looks at the clock."""

    def __init__(self) -> None:
        self.images = 0
        self.looks: deque[tuple[float, int]] = deque(maxlen=WINDOW)  # (time, images by then)
        self.last: float | None = None

    def look(self, now: float) -> None:
        self.looks.append((now, self.images))

    def pause(self) -> None:
        """What passes until the next look is something else: its time does not count."""
        self.last = self.per_second()
        self.looks.clear()

    def per_second(self) -> float | None:
        """None before the second look; after a pause, the speed before it."""
        if len(self.looks) < 2:
            return self.last
        (start, before), (end, after) = self.looks[0], self.looks[-1]
        return (after - before) / (end - start) if end > start else self.last


def batches_left(
    batches: float, epoch: int, batch: int, max_epochs: int | None, steps_left: int | None, accumulated: int
) -> float | None:
    """How many batches the run still has to train on; None without an end.

    Args:
        batches: of an epoch.
        epoch: the current one, counted from 0.
        batch: of it, done.
        max_epochs: None or -1: no such end.
        steps_left: of the optimizer; None: no such end.
        accumulated: batches of a step.
    """
    ends = [] if max_epochs is None or max_epochs < 0 else [(max_epochs - epoch) * batches - batch]
    ends += [] if steps_left is None else [steps_left * accumulated]
    return max(min(ends), 0) if ends and min(ends) != float("inf") else None


def clock_text(seconds: float) -> str:
    """`0:43`, `12:05` or `3:12:05`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def progress_line(
    width: int,
    what: str,
    done: int,
    total: float,
    speed: float | None = None,
    seconds_left: float | None = None,
    best: str = "",
    signs: Sequence[str] = "━─",
) -> str:
    """`epoch 3/10  ━━━━━━────  16/39  412 images/s  0:43 left  best val/accuracy 0.9611`.

    Where there is little room, parts are left out, the batches' count first.

    Args:
        width: the most characters.
        total: infinite where it isn't known.
        signs: for what is done and what is left.
    """
    known = total != float("inf")
    parts = {  # in the order of the line
        "what": what,
        "bar": signs[1] * LEAST if known else "",
        "count": f"{done:>{len(str(total))}}/{total}" if known else str(done),
        "speed": f"{speed:,.0f} images/s" if speed is not None else "",
        "left": f"{clock_text(seconds_left)} left" if seconds_left is not None else "",
        "best": best,
    }
    taken, room = {"what"}, width - len(what)
    for name in ("left", "best", "speed", "bar", "count"):
        if parts[name] and len(parts[name]) + 2 <= room:
            taken.add(name)
            room -= len(parts[name]) + 2
    length = min(LEAST + room, MOST)
    full = round(length * min(done / total, 1)) if known and total else 0
    parts["bar"] = signs[0] * full + signs[1] * (length - full)
    return "  ".join(text for name, text in parts.items() if name in taken)[:width]
