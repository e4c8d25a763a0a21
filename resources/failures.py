"""What went wrong, in the words of the error that started it."""

from typing import Any


def root_error(error: Any) -> Any:
    """The first cause of a step's `SerializableErrorInfo`: Dagster wraps what user code raises."""
    while error is not None and error.cause is not None:
        error = error.cause
    return error


def root_message(error: Any) -> str:
    """What the first cause of a step's `SerializableErrorInfo` says."""
    root = root_error(error)
    message = (root.message if root is not None else "failed").strip()
    # "package.module.SomeError: what happened" reads better without the package.
    kind, colon, rest = message.partition(": ")
    return f"{kind.rsplit('.', 1)[-1]}{colon}{rest}"
