"""Errors that a person is meant to read: what is wrong, where, and the mend."""

from functools import partial
from typing import Any


class HeadwaterError(Exception):
    """A user's mistake or a fault of the surroundings.

    Args:
        what: what is wrong and where, in one sentence.
        mend: what to do about it, in one sentence.
    """

    def __init__(self, what: str, *, mend: str) -> None:
        super().__init__(f"{what} {mend}")
        self.what = what
        self.mend = mend

    def __reduce__(self) -> tuple[Any, ...]:
        # As it was made: an exception's own way gives another process the whole sentence as `what`.
        return partial(type(self), mend=self.mend), (self.what,)


class IntegrityError(HeadwaterError):
    """Bytes on disk are not those that their digest names."""
