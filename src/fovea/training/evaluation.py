"""Measures a network on one split, and other networks beside it, such as one of averaged weights."""

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from fovea.distributed.gather import broadcast_buffers
from fovea.training.batch_loss import BatchLoss
from fovea.training.meter import Meter


class Evaluation:
    """One validation or test.

    Attributes:
        networks: by the prefix of their figures' names; "" is the trained network's.
        meters: of the networks, by the same prefixes.
    """

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        meter: Callable[[str], Meter],
        adjust: Callable[[Tensor], Tensor],
    ) -> None:
        """All ranks must call this at the same point.

        Args:
            networks: see the attributes.
            meter: makes the meter for a prefix.
            adjust: logits -> the logits whose metrics are measured, both (B, K); the loss is of the first ones.
        """
        self.networks, self.adjust = networks, adjust
        self.meters = {prefix: meter(prefix) for prefix in networks}
        for network in networks.values():
            broadcast_buffers(network)  # BatchNorm's differ between ranks, because DDP copies them only before a step

    def update(self, images: Tensor, target: Tensor, loss: BatchLoss) -> dict[str, Tensor]:
        """Measure a batch.

        Args:
            images: (B, 3, H, W), the network's input.
            target: (B,) or (B, K).
            loss: the loss to measure.

        Returns:
            Each network's logits (B, K), by prefix.
        """
        of_network = {network: network(images) for network in dict.fromkeys(self.networks.values())}
        logits = {prefix: of_network[network] for prefix, network in self.networks.items()}
        for prefix, of_prefix in logits.items():
            self.meters[prefix].update(loss(of_prefix, target), self.adjust(of_prefix), target)
        return logits

    def compute(self) -> dict[str, Tensor]:
        """Return the figures over all ranks, {name: scalar}. All ranks must call this at the same point."""
        return {name: value for meter in self.meters.values() for name, value in meter.compute().items()}

    def compute_per_class(self) -> dict[str, Tensor]:
        """Return {name: (K,)} over all ranks; to be called after `compute`."""
        tables = {prefix: meter.compute_per_class() for prefix, meter in self.meters.items()}
        return {f"{prefix}{name}": column for prefix, table in tables.items() for name, column in table.items()}

    def prefix_of(self, monitor: str) -> str:
        """Return the prefix of the network that the monitor measures: "ema_" for val/ema_accuracy."""
        name = monitor.partition("/")[2]
        return max((prefix for prefix in self.networks if name.startswith(prefix)), key=len)

    @property
    def of_network(self) -> Meter:
        """The trained network's meter."""
        return self.meters[""]
