"""How far Lightning's loops have come, written so that Lightning goes on exactly there.

Lightning 2.6 tells where a checkpoint was written by comparing counters, and finds its way back without a loss from two
places only: the end of a batch, and the first batch of a validation. After an epoch's end it would go through that end
once more. So the counters of a checkpoint are set as they are at those places, and `go_on` says of an ended epoch that
there is nothing to return to.
"""

from typing import Any

from lightning import Trainer

Loops = dict[str, Any]  # a checkpoint's ["loops"]["fit_loop"]


def within_epoch(loops: Loops) -> None:
    """Between two batches: as Lightning leaves its counters in `on_train_batch_end`."""
    _epoch_has_begun(loops)
    batches = loops["epoch_loop.batch_progress"]
    for counts in (batches["current"], batches["total"]):
        done = counts["completed"]
        counts |= {"ready": done, "started": done, "processed": done, "completed": done - 1}
    batches["is_last_batch"] = False
    loops["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1


def before_validation(loops: Loops) -> None:
    """The batches before it are done; the validation starts from its beginning."""
    _epoch_has_begun(loops)
    batches = loops["epoch_loop.val_loop.batch_progress"]
    before = batches["total"]["completed"] - batches["current"]["completed"]
    for counts, done in ((batches["current"], 0), (batches["total"], before)):
        counts |= {"ready": done + 1, "started": done + 1, "processed": done, "completed": done}


def between_epochs(loops: Loops) -> None:
    """One epoch is over, validation, schedules, logs and all; the next one has not begun."""
    for counts in (loops["epoch_progress"]["current"], loops["epoch_progress"]["total"]):
        done = counts["completed"]
        counts |= {"ready": done, "started": done, "processed": done}


def _epoch_has_begun(loops: Loops) -> None:
    for counts in (loops["epoch_progress"]["current"], loops["epoch_progress"]["total"]):
        done = counts["completed"]
        counts |= {"ready": done + 1, "started": done + 1, "processed": done}


def go_on(trainer: Trainer) -> None:
    """To be called in `on_train_start`: an epoch that is over is not gone through again."""
    progress = trainer.fit_loop.epoch_progress.total
    if progress.ready == progress.completed:
        has_gone_on(trainer)


def has_gone_on(trainer: Trainer) -> None:
    """To be called when the first batch comes: Lightning leaves plateau schedules out at the end of a resumed epoch."""
    trainer.fit_loop._restarting = False  # the setter of `restarting` sets True, whatever it is given, with max_steps
    trainer.fit_loop.epoch_loop.restarting = False


def was_over(trainer: Trainer, last_logged_step: int) -> None:
    """To be called in `on_fit_end`: what `within_epoch` took off is put back, if no batch was left that would do it.

    The test's figures are logged under these numbers.
    """
    loop = trainer.fit_loop.epoch_loop
    loop._batches_that_stepped = max(loop._batches_that_stepped, last_logged_step + 1)
    epochs = trainer.fit_loop.epoch_progress
    for counts in (epochs.current, epochs.total):
        vars(counts).update(processed=counts.ready, completed=counts.ready)


def is_between_batches(trainer: Trainer) -> bool:
    """Whether the next batch is waited for, and the weights are those of a whole optimizer step."""
    batches = trainer.fit_loop.epoch_loop.batch_progress.current
    return batches.ready == batches.completed and at_a_step(trainer)


def at_a_step(trainer: Trainer) -> bool:
    """Whether no gradient waits for further batches (accumulate_grad_batches); after an epoch's last one none does."""
    batches = trainer.fit_loop.epoch_loop.batch_progress
    done, begun = batches.current.completed, batches.current.ready
    return done % trainer.accumulate_grad_batches == 0 or (batches.is_last_batch and begun == done)


def last_logged_step(trainer: Trainer) -> int:
    """The step under which was logged last; within a validation, the one that it is logged under itself."""
    stepped = trainer.fit_loop.epoch_loop._batches_that_stepped
    return stepped if trainer.validating else stepped - 1
