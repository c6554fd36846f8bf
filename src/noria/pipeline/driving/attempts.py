"""The life of a step in a run, and what follows the end of an attempt. Pure: chance and time are handed in.

    waiting ── every parent is over ──▶ ready
    ready ──▶ skipped     a decision fell for another branch, or what it needs was not made
    ready ──▶ cached      its key has a result that holds (also one of this run, when it is resumed)
    ready ──▶ held        the right to its key is this driver's: nobody else makes it now
              (another driver's: it waits, and looks again when that one has published or died)
    held ──▶ running      there are cores, memory and devices for it: attempt n begins
    running ──▶ done      outputs are objects; the result is in the journal, then a fact
    running ──▶ failed    its code raised, or gave what it may not give     ┐ while retries are left:
    running ──▶ killed    a signal, a limit of memory or time               ┘ held, after a pause
    running ──▶ preempted SIGTERM: held again, and no retry is used up; five times in a row without a new
                          checkpoint, from the third after a pause; then it is killed
    running ──▶ lost      SIGKILL by nobody of this run: the same, twice for each step; then it is killed
    running ──▶ cancelled a person, or a sibling's failure under on_failure = "stop"

What makes it safe to kill anything at any moment:

- An attempt is one process's at a time: the right to a key is a lock or a lease, and on one machine
  an attempt begins only when the kernel has let go of the one before (`flight.alone`).
- A result is written once by whoever made it, objects first, then one line of the journal, then the
  fact. A driver that is killed between two of these finds the line, or the fact, when it comes back,
  and begins nothing again that has an end.
- A driver that was taken over (it slept past its lease) writes nothing more: every transaction asks
  first whether the run is still its own.
- Retries are counted in the run that goes on; a preempted attempt is not a failure.
"""

from __future__ import annotations

from noria.core.errors import NoriaError, StepFailed, StepKilled, WorldError
from noria.core.frozen import frozen
from noria.pipeline.executor import Done
from noria.pipeline.options import StepOptions

__all__ = ["LOSSES_MAX", "PREEMPTIONS_MAX", "Following", "counted", "following", "is_failure", "pause_s", "status_of"]

PREEMPTIONS_MAX = 5
"""So often in a row a step may be asked to leave before it has come further (has kept another checkpoint); then it is
told as killed: it never gets to its end so, or it signals itself, and what it does to the world it does each time."""
PREEMPTIONS_AT_ONCE = 2
"""So often it begins again without a pause."""
LOSSES_MAX = 2
"""So many processes of a step may be killed under it; of the next it is told as killed: perhaps it is the step."""
AGAIN_S = 1.0
"""The first pause after being asked to leave."""
PAUSE_MAX_S = 300.0


@frozen
class Following:
    """What follows an attempt: another one after a pause, or nothing: the step is over."""

    is_again: bool
    pause_s: float = 0.0
    is_preempted: bool = False


def is_failure(done: Done, losses: int, preemptions: int = 0) -> bool:
    """Whether an attempt that did not succeed counts among the failures. `losses` and `preemptions` with this one."""
    if done.error is None or (done.is_preempted and preemptions <= PREEMPTIONS_MAX):
        return False
    return not (done.is_lost and losses <= LOSSES_MAX)


def following(
    done: Done, options: StepOptions, *, failures: int, preemptions: int, chance: float, losses: int = 0
) -> Following:
    """What to do after an attempt. What the step's code was refused (a UsageError, a closed gate) is not tried again.

    Args:
        failures, losses: how many there were, with this one.
        preemptions: how many there were in a row, with this one, since a checkpoint was kept.
        chance: a random number, 0..1, that spreads the retries of steps that failed together.
    """
    if done.error is None:
        return Following(False)
    if done.is_preempted and preemptions <= PREEMPTIONS_MAX:
        late = preemptions - PREEMPTIONS_AT_ONCE
        return Following(True, pause_s(AGAIN_S, late, chance) if late > 0 else 0.0, is_preempted=True)
    if done.is_lost and losses <= LOSSES_MAX:
        return Following(True)
    if failures <= options.retries and isinstance(done.error, StepFailed | StepKilled | WorldError):
        return Following(True, pause_s(options.retry_wait_s, failures, chance))
    return Following(False)


def counted(error: NoriaError, failures: int, options: StepOptions, *, preemptions: int = 0) -> NoriaError:
    """The error of the last attempt of a step that had all of its retries, with how many attempts that makes.

    `preemptions`: the attempt was asked to leave, as so many in a row.
    """
    if preemptions > PREEMPTIONS_MAX:
        text = f"{error.message}, {preemptions} times in a row"
        hint = "find out who sends SIGTERM, perhaps the step itself; nr.checkpointed lets it come further each time"
        return type(error)(text, where=error.where, hint=hint)
    if not options.retries or failures <= options.retries:
        return error
    text = f"{error.message} (attempt {failures} of {options.retries + 1})"
    return type(error)(text, where=error.where, hint=error.hint)


def pause_s(first_s: float, failures: int, chance: float) -> float:
    """Seconds before the next attempt: twice as long after each failure, half of it by chance, five minutes at most."""
    whole = min(first_s * 2.0 ** min(failures - 1, 30), PAUSE_MAX_S)
    return whole * (0.5 + 0.5 * chance)


def status_of(done: Done) -> str:
    """The word for how an attempt ended."""
    if done.error is None:
        return "done"
    return "killed" if done.is_killed else "failed"
