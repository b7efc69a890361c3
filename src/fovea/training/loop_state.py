"""Sets the counters of Lightning's loops so that a resumed training goes on exactly where it was saved.

For batches and for epochs, Lightning counts `ready` and `started` (begun), `processed` (the work is done) and
`completed` (the hooks have run too); `current` counts within the epoch, `total` within the training. From their
differences Lightning 2.6 concludes where a checkpoint was written. It resumes exactly from two places only: the end of
a batch, and before the first batch of a validation. So a checkpoint's counters are set to what they are at these two
places. After a checkpoint between two epochs, Lightning would run the end of the finished epoch again;
`end_restart_between_epochs` prevents this.
"""

from typing import Any

from lightning import Trainer

Loops = dict[str, Any]  # a checkpoint's ["loops"]["fit_loop"]
Counts = dict[str, int]  # ready, started, processed, completed


def within_epoch(loops: Loops) -> None:
    """For a checkpoint between two batches: set the counters as they are in `on_train_batch_end`.

    There the last batch is processed, but not completed, and `_batches_that_stepped` has not counted it.
    """
    _set_epoch_begun(loops)
    batches = loops["epoch_loop.batch_progress"]
    for counts in (batches["current"], batches["total"]):
        done = counts["completed"]
        _set(counts, begun=done, processed=done, completed=done - 1)
    batches["is_last_batch"] = False
    loops["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1


def before_validation(loops: Loops) -> None:
    """For a checkpoint in a validation: set the counters as they are at its first batch, which is begun."""
    _set_epoch_begun(loops)
    batches = loops["epoch_loop.val_loop.batch_progress"]
    earlier = batches["total"]["completed"] - batches["current"]["completed"]  # in the validations before it
    for counts, done in ((batches["current"], 0), (batches["total"], earlier)):
        _set(counts, begun=done + 1, processed=done, completed=done)


def between_epochs(loops: Loops) -> None:
    """For a checkpoint between two epochs: all of the last one is completed, and the next one is not begun."""
    for counts in (loops["epoch_progress"]["current"], loops["epoch_progress"]["total"]):
        done = counts["completed"]
        _set(counts, begun=done, processed=done, completed=done)


def _set_epoch_begun(loops: Loops) -> None:
    for counts in (loops["epoch_progress"]["current"], loops["epoch_progress"]["total"]):
        done = counts["completed"]
        _set(counts, begun=done + 1, processed=done, completed=done)


def _set(counts: Counts, begun: int, processed: int, completed: int) -> None:
    counts |= {"ready": begun, "started": begun, "processed": processed, "completed": completed}


def end_restart_between_epochs(trainer: Trainer) -> None:
    """Prevent Lightning from running the end of a finished epoch again. To be called in `on_train_start`."""
    progress = trainer.fit_loop.epoch_progress.total
    if progress.ready == progress.completed:
        end_restart(trainer)


def end_restart(trainer: Trainer) -> None:
    """Tell Lightning's loops that the resumed training runs. To be called before the first batch.

    As long as they are restarting, they don't step plateau schedules at the end of an epoch.
    """
    trainer.fit_loop._restarting = False  # with max_steps, the setter of `restarting` sets True whatever it is given
    trainer.fit_loop.epoch_loop.restarting = False


def complete_counts(trainer: Trainer, last_logged_step: int) -> None:
    """Count the last batch and epoch as completed. To be called in `on_fit_end`.

    `within_epoch` subtracted them, and Lightning adds them again in the next batch only. If the resumed training has no
    batch left, they would be missing, and the test's figures would be logged under a wrong step and epoch.
    """
    loop = trainer.fit_loop.epoch_loop
    loop._batches_that_stepped = max(loop._batches_that_stepped, last_logged_step + 1)
    epochs = trainer.fit_loop.epoch_progress
    for counts in (epochs.current, epochs.total):
        vars(counts).update(processed=counts.ready, completed=counts.ready)


def is_between_batches(trainer: Trainer) -> bool:
    """Return True if no batch is being trained on and no accumulated gradient waits for further batches."""
    batches = trainer.fit_loop.epoch_loop.batch_progress.current
    return batches.ready == batches.completed and at_a_step(trainer)


def has_ended(trainer: Trainer) -> bool:
    """Return True if the epoch's last batch was read. max_steps, max_time or early stopping may end it earlier."""
    batches = trainer.fit_loop.epoch_loop.batch_progress
    return batches.is_last_batch or batches.current.ready >= trainer.num_training_batches


def at_a_step(trainer: Trainer) -> bool:
    """Return True if no accumulated gradient (accumulate_grad_batches) waits for further batches."""
    batches = trainer.fit_loop.epoch_loop.batch_progress
    done, begun = batches.current.completed, batches.current.ready
    return done % trainer.accumulate_grad_batches == 0 or (batches.is_last_batch and begun == done)


def is_within_step(trainer: Trainer) -> bool:
    """Return True if the current batch's gradient waits for further batches. Works in `on_train_batch_end` too."""
    begun = trainer.fit_loop.epoch_loop.batch_progress.current.ready
    return begun % trainer.accumulate_grad_batches != 0 and not has_ended(trainer)


def prevent_extra_validation(trainer: Trainer) -> None:
    """Prevent the validation that Lightning adds before a stop. To be called in `on_train_batch_end`, before the stop.

    A validation that is due after this batch anyway is made.
    """
    loop, fetcher = trainer.fit_loop.epoch_loop, trainer.fit_loop._data_fetcher
    assert fetcher is not None
    loop._skip_next_val = not loop._should_check_val_fx(fetcher)


def last_logged_step(trainer: Trainer) -> int:
    """Return the step of the last logged values; in a validation, the step under which its values are logged."""
    stepped = trainer.fit_loop.epoch_loop._batches_that_stepped
    return stepped if trainer.validating else stepped - 1
