"""Names of logged figures: `<split>/<metric>`, or `<split>/<average>_<metric>` of averaged weights (val/ema_loss)."""

AVERAGES = ("ema", "swa")  # kinds of averaged weights, each with its callback


def split_name(name: str) -> tuple[str, str]:
    """Return (average, metric) of a name without its split: ema_loss -> (ema, loss), loss -> ("", loss)."""
    average, _, metric = name.partition("_")
    return (average, metric) if average in AVERAGES else ("", name)


def average_of(monitor: str) -> str:
    """Return the average whose figure the monitor is: "ema", "swa", or "" for the trained weights."""
    return split_name(monitor.partition("/")[2])[0]


def prefix(average: str) -> str:
    """Return what stands before the metric's name: "ema_", or "" for the trained weights."""
    return f"{average}_" if average else ""


def checkpoint_key(average: str) -> str:
    """Return the key of a checkpoint that holds the averaged weights, with the network's names."""
    return f"state_dict_{average}"
