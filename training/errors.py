"""Errors of a training."""

from headwater.errors import HeadwaterError


class TrainingError(HeadwaterError):
    """The training cannot go on, and the cause is known."""
