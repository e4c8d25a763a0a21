"""Requests and responses of the OpenAI API, as far as the endpoint speaks it, and its errors.

Knows the wire format only. A parameter that would change the answer and is not supported is
refused, never ignored; those that do not matter here (`user`, `metadata`, ...) are ignored.
"""

import json
import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from headwater.guardrails.decisions import Decision
from headwater.records import Hit

#: The name under which the endpoint serves whatever release is current.
MODEL = "headwater"


class ApiError(Exception):
    """An error in OpenAI's format.

    Args:
        status: of HTTP.
        message: what is wrong and the mend.
        kind: OpenAI's `type`, for example "invalid_request_error".
        param: the parameter at fault.
        code: OpenAI's or our short code.
        retry_after: seconds after which a retry makes sense.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.kind = status, message, kind
        self.param, self.code, self.retry_after = param, code, retry_after

    def to_json(self) -> dict[str, Any]:
        fields = {"message": self.message, "type": self.kind}
        return {"error": {**fields, "param": self.param, "code": self.code}}


def _join_parts(content: object) -> object:
    """A message's content as one string; it may come as a list of text parts."""
    if not isinstance(content, list):
        return content
    texts = [
        part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
        for part in content
    ]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("only content parts of type text are supported")
    return "\n".join(str(text) for text in texts)


def _encodable(text: str) -> str:
    """JSON can name half a surrogate pair, which is no character."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("the text holds half a surrogate pair") from error
    return text


Text = Annotated[str, AfterValidator(_encodable)]


class Message(BaseModel):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[Text, BeforeValidator(_join_parts)]


class StreamOptions(BaseModel):
    """Options of a stream."""

    include_usage: bool = False


#: Parameters that would change the answer, and the values at which they do not.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "n": (1,),
    "prediction": (),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "top_p": (1,),
}


class ChatRequest(BaseModel):
    """Body of POST /v1/chat/completions.

    Temperature defaults to 0, as the release was evaluated; OpenAI's default is 1. `timeout` is ours:
    seconds until the request's deadline.
    """

    model_config = ConfigDict(extra="allow")

    model: str = MODEL
    messages: list[Message] = Field(min_length=1)
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: Text | list[Text] | None = None
    user: Text | None = Field(None, max_length=512)
    timeout: float | None = Field(None, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _supported(self) -> "ChatRequest":
        _refuse_unsupported(self.model_extra or {}, _NEUTRAL)
        if self.messages[-1].role != "user":
            raise ValueError("the last message must be the user's")
        return self

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with the token counts."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def stops(self) -> tuple[str, ...]:
        """The client's stop texts."""
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(text for text in stop if text)


class EmbeddingRequest(BaseModel):
    """Body of POST /v1/embeddings."""

    model: str = MODEL
    input: Text | list[Text]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None

    @property
    def texts(self) -> list[str]:
        return [self.input] if isinstance(self.input, str) else self.input


def citation(hit: Hit) -> dict[str, Any]:
    """What a client sees of a passage: where it stands, byte offsets, and its text."""
    return {
        "uri": hit.uri,
        "title": hit.title,
        "heading": hit.heading,
        "start": hit.start,
        "end": hit.end,
        "text": hit.text,
    }


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """Token counts as OpenAI names them."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


class ChatReply:
    """Writes one answer in OpenAI's format, whole or as a stream's chunks.

    Args:
        trace: names the request.
        release: what answers; the `model` and `system_fingerprint` of the response tell it.
    """

    def __init__(self, trace: str, release: str) -> None:
        self._head = {
            "id": f"chatcmpl-{trace}",
            "created": int(time.time()),
            "model": MODEL,
            "system_fingerprint": release,
        }

    def whole(
        self,
        text: str,
        finish_reason: str,
        tokens: dict[str, int],
        cited: Sequence[Hit],
        guard: Sequence[Decision] = (),
    ) -> dict[str, Any]:
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {
            "index": 0,
            "message": message,
            "finish_reason": finish_reason,
            "logprobs": None,
        }
        return {
            **self._head,
            "object": "chat.completion",
            "choices": [choice],
            "usage": tokens,
            "citations": [citation(hit) for hit in cited],
            "guard": [decision.to_json() for decision in guard],
        }

    def first(self) -> bytes:
        return self._chunk({"role": "assistant", "content": ""}, None)

    def piece(self, text: str) -> bytes:
        return self._chunk({"content": text}, None)

    def last(
        self,
        finish_reason: str,
        tokens: dict[str, int],
        cited: Sequence[Hit],
        guard: Sequence[Decision] = (),
        *,
        include_usage: bool,
    ) -> bytes:
        """The closing chunks: the last one before [DONE] carries citations and guard decisions."""
        citations = {
            "citations": [citation(hit) for hit in cited],
            "guard": [decision.to_json() for decision in guard],
        }
        if not include_usage:
            return self._chunk({}, finish_reason, **citations) + DONE
        tail = {**self._head, "object": "chat.completion.chunk", "choices": [], "usage": tokens}
        return self._chunk({}, finish_reason) + event(tail | citations) + DONE

    def _chunk(self, delta: dict[str, str], finish_reason: str | None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        chunk = {**self._head, "object": "chat.completion.chunk", "choices": [choice]}
        return event(chunk | more)


def event(value: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def _refuse_unsupported(given: dict[str, Any], neutral: dict[str, tuple[Any, ...]]) -> None:
    for name, value in given.items():
        if name in neutral and value is not None and value not in neutral[name]:
            raise ValueError(f"{name}={value!r} is not supported; leave {name} out")
