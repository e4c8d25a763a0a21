"""What went wrong, in the words of the error that user code has raised."""

from typing import Any


def root_error(error: Any) -> Any:
    """The error that user code has raised, of a step's or tick's `SerializableErrorInfo`.

    Dagster wraps it. What it was itself raised from is not looked for: whoever raised it has said
    what that means, and what to do.
    """
    while error is not None and error.cause is not None and _is_wrapper(error.cls_name or ""):
        error = error.cause
    return error


def _is_wrapper(name: str) -> bool:
    """Whether an error is Dagster's own, as `SensorExecutionError`."""
    return name.startswith("Dagster") or name.endswith("ExecutionError")


def root_message(error: Any) -> str:
    """What the error that user code has raised says."""
    root = root_error(error)
    message = (root.message if root is not None else "failed").strip()
    # "package.module.SomeError: what happened" reads better without the package.
    kind, colon, rest = message.partition(": ")
    return f"{kind.rsplit('.', 1)[-1]}{colon}{rest}"
