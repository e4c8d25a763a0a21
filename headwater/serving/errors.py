"""What a client reads of whatever went wrong. Knows the errors, not where they come from."""

import logging

from headwater.errors import HeadwaterError
from headwater.serving.answer import DeadlineError, PromptTooLongError
from headwater.serving.openai_types import ApiError
from headwater.serving.swap import NotReadyError

log = logging.getLogger("headwater")


def as_api_error(error: Exception) -> ApiError:
    """What the client reads. Only unforeseen errors are the server's fault and go to the log."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, PromptTooLongError):
        return ApiError(400, str(error), param="messages", code="context_length_exceeded")
    if isinstance(error, DeadlineError):
        return ApiError(504, str(error), kind="server_error", code="deadline_exceeded")
    if isinstance(error, NotReadyError):
        return ApiError(503, str(error), kind="server_error", code="not_ready", retry_after=1)
    log.error("endpoint: a request failed", exc_info=error)
    text = str(error) if isinstance(error, HeadwaterError) else "The server failed; see its log."
    return ApiError(500, text, kind="server_error", code=type(error).__name__)
