"""Logit adjustment, compared with a plain loop, the balanced softmax' formula, and Bayes' rule on a small problem."""

import math

import pytest
import torch
from torch.nn import functional as F

from fovea.losses.logit_adjustment import LogitAdjustment, log_prior
from fovea.training.batch_loss import BatchLoss

COUNTS = {"present": [70, 20, 8, 2], "absent": [30, 80, 92, 98]}
LOGITS = 3 * torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 3, 1, 1, 2, 0])
SHARES = torch.rand(6, 4, generator=torch.Generator().manual_seed(1)).softmax(1)


def loss(tau: float = 1.0, **options: object) -> LogitAdjustment:
    return LogitAdjustment(tau, class_counts=COUNTS, **options)  # type: ignore[arg-type]


def loop(shares: torch.Tensor, tau: float) -> float:
    total = 0.0
    for row, of_row in zip(LOGITS.tolist(), shares.tolist(), strict=True):
        adjusted = [logit + tau * math.log(n / 100) for logit, n in zip(row, COUNTS["present"], strict=True)]
        norm = math.log(sum(math.exp(logit) for logit in adjusted))
        total -= sum(share * (logit - norm) for share, logit in zip(of_row, adjusted, strict=True))
    return total / len(shares)


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_the_loss_is_that_of_a_plain_loop_for_indices_and_mixed_labels(tau: float) -> None:
    assert loss(tau)(LOGITS, LABELS).item() == pytest.approx(loop(torch.eye(4)[LABELS], tau), rel=1e-5)
    assert loss(tau)(LOGITS, SHARES).item() == pytest.approx(loop(SHARES, tau), rel=1e-5)


def test_a_tau_of_1_is_the_balanced_softmax() -> None:
    weighted = torch.tensor(COUNTS["present"]) * LOGITS.exp()  # (B, K)
    p = weighted / weighted.sum(1, keepdim=True)
    torch.testing.assert_close(loss()(LOGITS, LABELS), -p[torch.arange(6), LABELS].log().mean())


def test_a_tau_of_0_is_cross_entropy() -> None:
    torch.testing.assert_close(loss(0)(LOGITS, LABELS), F.cross_entropy(LOGITS, LABELS))
    weight = torch.tensor([1, 4, 0.5, 2])
    options = {"class_weights": weight.tolist(), "label_smoothing": 0.1}
    torch.testing.assert_close(
        BatchLoss(loss(0, **options), "multiclass")(LOGITS, LABELS).value,
        F.cross_entropy(LOGITS, LABELS, weight, label_smoothing=0.1),
    )


def test_its_minimum_on_long_tailed_labels_predicts_as_if_classes_were_equally_frequent() -> None:
    likelihood = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.3, 0.5]])  # of three kinds of images, (K, kinds)
    counts = torch.tensor([900, 100])
    joint = likelihood * counts[:, None] / counts.sum()  # (K, kinds)
    logits = torch.zeros(3, 2, requires_grad=True)
    of_counts = LogitAdjustment(class_counts={"present": counts.tolist(), "absent": counts.flip(0).tolist()})
    optimizer = torch.optim.LBFGS([logits], max_iter=100)

    def closure() -> float:
        optimizer.zero_grad()
        parts = [of_counts(logits[None, i], (joint[:, i] / joint[:, i].sum())[None]) for i in range(3)]
        value = (joint.sum(0) * torch.stack(parts)).sum()
        value.backward()
        return value.item()

    optimizer.step(closure)
    balanced = likelihood / likelihood.sum(0)  # Bayes' rule with equal class frequencies
    torch.testing.assert_close(logits.detach().softmax(1), balanced.T, atol=1e-3, rtol=0)


def test_a_class_without_images_counts_as_having_one(caplog: pytest.LogCaptureFixture) -> None:
    torch.testing.assert_close(log_prior([3, 0]), torch.tensor([3 / 4, 1 / 4]).log())
    LogitAdjustment(class_counts={"present": [3, 0], "absent": [0, 3]}, class_names=["cat", "owl"])
    assert "1 classes without a training image count as having one: owl" in caplog.text


def test_a_negative_tau_and_missing_counts_are_refused() -> None:
    with pytest.raises(ValueError, match=r"loss\.tau=-1"):
        loss(-1)
    with pytest.raises(ValueError, match="LogitAdjustment needs the counts of the training labels"):
        LogitAdjustment()


def test_the_prior_moves_with_the_loss_and_is_not_in_checkpoints() -> None:
    assert not loss().state_dict()
    assert loss().to("meta").log_prior.device.type == "meta"
