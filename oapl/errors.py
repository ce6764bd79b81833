"""The project's errors. Each is also an error of the standard library, so that a caller who knows
nothing of oapl can still catch it."""

from __future__ import annotations

from collections.abc import Sequence


class OaplError(Exception):
    """Anything oapl raises on purpose."""


class InputError(OaplError, ValueError):
    """What a user wrote cannot work: names the value, the rule and the remedy. Exit code 2."""


class DeadlineError(OaplError, TimeoutError):
    """A wait ended without what it waited for: names who, for what, how long."""


class DiedError(OaplError, RuntimeError):
    """A process of the run ended while it was asked for something: names it and its log."""


class LostError(OaplError, RuntimeError):
    """What cannot be replaced alone died, hung or failed: only the whole run can be started again,
    from its last checkpoint.

    Attributes:
        part: Whose policy in `[restarts]` says how often that happens.
        kind: What is counted as `faults/KIND_restarts`.
    """

    part = kind = "rank"


class RankError(LostError):
    """A learner rank died, hung or failed: the ranks can only be started again together."""


class ReplayError(LostError):
    """The replay buffer died or hangs, and with it what it held since the last checkpoint."""

    part = kind = "replay"


class NodeError(RankError):
    """Ray has ended on this machine under the run, and its processes there with it."""

    kind = "node"


class HeadError(OaplError, RuntimeError):
    """The head of the Ray cluster has ended: this process can use Ray no more."""


class StorageError(OaplError, OSError):
    """What a run must write has no place: names the folder and the remedy."""


class EngineError(OaplError, RuntimeError):
    """The inference engine failed; it must be rebuilt and loaded again."""


class WeightsError(OaplError, RuntimeError):
    """A publication was incomplete, non-finite or of another model."""


class ProbeError(OaplError, RuntimeError):
    """Engine and learner disagree about log-probs at equal version."""


class VerifierError(OaplError, RuntimeError):
    """A verifier gives no verdict on any response: names it, the cause and the remedy."""


class StaleError(OaplError, RuntimeError):
    """A call came from a worker that was released, or carried another version."""


class DivergedError(OaplError, ArithmeticError):
    """Too many learner steps in a row had a non-finite loss or gradient."""


class DrawsError(OaplError, RuntimeError):
    """Every draw of a prompt failed: tells the cause of the first."""

    @classmethod
    def since(cls, cause: str) -> DrawsError:
        """The error for a run whose first draw failed with `cause`."""
        return cls(
            "every prompt that was drawn has failed, so there is nothing to train on; the first: "
            f"{cause}; mend that and start the run again"
        )


class CheckpointError(OaplError, RuntimeError):
    """A checkpoint is damaged or does not fit this run."""


def in_one_line(error: BaseException) -> str:
    """Give an error's text with the notes that were added to it."""
    return "; ".join([str(error), *getattr(error, "__notes__", ())])


def original(error: BaseException) -> BaseException:
    """What another process raised, where Ray's copy stands for it: that one's text is a traceback
    with process ids, of which no two are equal."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, BaseException) else error


def first_line(error: BaseException) -> str:
    """Give the first line of an error's text, which in the heavy libraries may run over twenty.

    Returns:
        Without a full stop or colon at its end; the error's type where it has no text.
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".:")


def with_count(failed: Sequence[str], total: int) -> str:
    """Give the first of several errors of one source, and how many rows have one.

    Args:
        failed: At least one, in the order of the rows.
        total: Rows that were looked at.
    """
    more = f" ({len(failed)} of {total} rows are such)" if len(failed) > 1 else ""
    return failed[0] + more
