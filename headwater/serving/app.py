"""The endpoint's HTTP: an OpenAI-compatible FastAPI application over a `Service`.

Knows routes, headers and the wire format; what an answer is and where it comes from is the
service's business.
"""

import asyncio
import base64
import math
import os
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headwater.errors import HeadwaterError
from headwater.release.canary import as_mapping
from headwater.serving.answer import Decoding, Turn
from headwater.serving.errors import as_api_error
from headwater.serving.feedback_routes import feedback_router
from headwater.serving.job import Finished, Job
from headwater.serving.key_gate import KeyGate
from headwater.serving.key_ring import Caller, KeyRing
from headwater.serving.openai_types import (
    MODEL,
    ApiError,
    ChatReply,
    ChatRequest,
    EmbeddingRequest,
    event,
    usage,
)
from headwater.serving.outlier_routes import outlier_router
from headwater.serving.pages_routes import pages_router
from headwater.serving.service import Limits, Service
from headwater.settings import is_loopback

T = TypeVar("T")
RELEASE_HEADER, TRACE_HEADER = "X-Headwater-Release", "X-Headwater-Trace"
#: Keeps a conversation with one release while a canary runs; `user` in the body does the same.
SESSION_HEADER = "X-Headwater-Session"
#: Seconds that the client gives the request; `timeout` in the body does the same.
DEADLINE_HEADER = "X-Headwater-Deadline"
#: Larger bodies are refused unread.
MAX_BODY_BYTES = 4 * 2**20
#: Codes after which the official client must not try again by itself.
_FINAL = ("deadline_exceeded", "insufficient_quota")
#: nginx's code for a client that closed the connection; nobody reads it.
_CLIENT_GONE = 499


def create_app(service: Service, ring: KeyRing) -> FastAPI:
    """The application; it starts the service when the server starts, and closes it at the end."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            await asyncio.to_thread(service.close)

    app = FastAPI(title="Headwater", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(BodyLimit, seconds=service.limits.body_seconds)
    app.add_middleware(KeyGate, ring=ring, refuse=lambda path, error: refusal(service, path, error))
    if service.settings.is_loopback:
        # A web page that makes its name resolve to 127.0.0.1 would otherwise reach us.
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1", "::1"])
    _add_error_handlers(app, service)
    _add_api(app, service)
    _add_operations(app, service, ring)
    app.include_router(feedback_router(service))
    app.include_router(outlier_router(service))
    app.include_router(pages_router(service))
    return app


def _add_api(app: FastAPI, service: Service) -> None:
    @app.post("/v1/chat/completions")
    async def chat(body: ChatRequest, request: Request) -> Response:
        _check_model(body.model, service)
        turns = _turns(body, service.limits)
        user = body.user or request.headers.get(SESSION_HEADER)
        decoding = _decoding(body, service.limits)
        job = service.submit(
            turns,
            decoding,
            streamed=body.stream,
            user=user,
            caller=request.state.caller,
            seconds=_seconds(request, body.timeout),
            parent=request.headers.get("traceparent"),
        )
        request.state.job = job
        try:
            if body.stream:
                return AnswerStream(job, await _while_connected(request, job.next()), body)
            answer = (await _while_connected(request, job.end())).response
        except BaseException:
            job.cancel()
            raise
        tokens = usage(answer.prompt_tokens, answer.completion_tokens)
        reply = ChatReply(job.trace, job.release).whole(
            answer.text, answer.finish_reason, tokens, answer.citations, answer.decisions
        )
        return JSONResponse(reply, headers=_headers(job))

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        release = service.deployment.release
        names = [MODEL, release] if release else [MODEL]
        return {"object": "list", "data": [_model(name) for name in names]}

    @app.get("/v1/models/{name}")
    async def model(name: str) -> dict[str, Any]:
        _check_model(name, service)
        return _model(name)

    @app.post("/v1/embeddings")
    async def embeddings(body: EmbeddingRequest, request: Request) -> Response:
        _check_model(body.model, service)
        texts = body.texts
        _check_texts(texts, service.limits)
        vectors, tokens, release = await service.embed(
            texts,
            user=request.headers.get(SESSION_HEADER),
            caller=request.state.caller,
            seconds=_seconds(request, None),
        )
        if body.dimensions not in (None, vectors.shape[1]):
            raise ApiError(400, f"dimensions must be {vectors.shape[1]}.", param="dimensions")
        service.metrics.requests.labels("embeddings", "ok").inc()
        encoded: Sequence[Any] = (
            [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in vectors]
            if body.encoding_format == "base64"
            else vectors.tolist()
        )
        data = [
            {"object": "embedding", "index": index, "embedding": row}
            for index, row in enumerate(encoded)
        ]
        total = {"prompt_tokens": tokens, "total_tokens": tokens}
        reply = {"object": "list", "data": data, "model": MODEL, "usage": total}
        return JSONResponse(reply, headers={RELEASE_HEADER: release})


def _add_operations(app: FastAPI, service: Service, ring: KeyRing) -> None:
    @app.get("/healthz")
    async def healthz(request: Request) -> dict[str, Any]:
        well: dict[str, Any] = {"status": "ok", "service": MODEL}
        return well if request.state.caller is None else {**well, "pid": os.getpid()}

    @app.get("/readyz")
    async def readyz(request: Request) -> JSONResponse:
        release, error = service.deployment.release, service.deployment.error
        status = 200 if release else 503
        if request.state.caller is None:  # a probe without a key
            told = {"ready": release is not None, "service": MODEL, "needs_key": True}
            return JSONResponse(told, status_code=status)
        ready = {
            "ready": release is not None,
            "release": release,
            "error": error and str(error),
            "traffic": asdict(service.deployment.traffic),
            "recent_answers": service.recent_answers(),
            "service": MODEL,
            "pid": os.getpid(),
        }
        return JSONResponse(ready, status_code=status)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.post("/admin/reload")
    async def reload(request: Request) -> dict[str, Any]:
        """Load the release that the pointer names now, not at the next look at it."""
        _only_this_machine(request)
        release = await asyncio.to_thread(service.deployment.refresh)
        return {"release": release, "canary": service.deployment.loaded("canary")}

    @app.get("/admin/canary")
    async def canary(request: Request) -> dict[str, Any]:
        """What the evidence on the canary shows now; null without one."""
        _only_this_machine(request)
        now = service.deployment.traffic
        found = service.canary.judgement(now)
        return {
            "canary": now.canary,
            "judgement": found and as_mapping(found),
        }


def _add_error_handlers(app: FastAPI, service: Service) -> None:
    def respond(request: Request, error: ApiError) -> JSONResponse:
        job: Job | None = getattr(request.state, "job", None)
        return refusal(service, request.url.path, error, job)

    @app.exception_handler(ApiError)
    @app.exception_handler(HeadwaterError)
    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        return respond(request, as_api_error(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        param = ".".join(str(part) for part in first["loc"][1:]) or None
        text = f"{param or 'The request'}: {first['msg']}."
        return respond(request, ApiError(400, text, param=param))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        code = {408: "request_timeout", 413: "request_too_large"}.get(error.status_code)
        response = respond(request, ApiError(error.status_code, str(error.detail), code=code))
        if code is not None:  # what is left of the body is not waited for
            response.headers["Connection"] = "close"
        return response


def refusal(service: Service, path: str, error: ApiError, job: Job | None = None) -> JSONResponse:
    """An error as the client reads it; it is counted."""
    headers = _headers(job) if job else {}
    if job is None:  # an admitted request is counted where its work ends
        service.metrics.requests.labels(_route(path), _outcome(error.status)).inc()
    service.metrics.reject(error.code)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if error.code in _FINAL:
        headers["X-Should-Retry"] = "false"
    return JSONResponse(error.to_json(), status_code=error.status, headers=headers)


class AnswerStream(StreamingResponse):
    """The answer as server-sent events; when the client leaves, the generation ends."""

    def __init__(self, job: Job, first: str | Finished, body: ChatRequest) -> None:
        headers = {**_headers(job), "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(
            _events(job, first, include_usage=body.include_usage),
            media_type="text/event-stream",
            headers=headers,
        )
        self._job = job

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._job.cancel()


async def _events(job: Job, first: str | Finished, *, include_usage: bool) -> AsyncIterator[bytes]:
    reply = ChatReply(job.trace, job.release)
    yield reply.first()
    item = first
    try:
        while not isinstance(item, Finished):
            yield reply.piece(item)
            item = await job.next()
    except ApiError as error:
        # The status line is long gone; the official client raises on this event.
        yield event(error.to_json())
        return
    end = item.response
    tokens = usage(end.prompt_tokens, end.completion_tokens)
    yield reply.last(
        end.finish_reason, tokens, end.citations, end.decisions, include_usage=include_usage
    )


async def _while_connected(request: Request, work: Awaitable[T]) -> T:
    """The result of the work, unless the client leaves first.

    Raises:
        ApiError: the client left; the response goes nowhere.
    """
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ApiError(_CLIENT_GONE, "The client left.", code="client_gone")
    finally:
        working.cancel()
        gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _turns(body: ChatRequest, limits: Limits) -> list[Turn]:
    if len(body.messages) > limits.messages:
        raise ApiError(400, f"At most {limits.messages} messages.", param="messages")
    for index, message in enumerate(body.messages):
        if len(message.content) > limits.message_chars:
            raise ApiError(
                400,
                f"messages[{index}] has {len(message.content)} characters;"
                f" at most {limits.message_chars} are taken.",
                param="messages",
                code="string_above_max_length",
            )
    turns = [
        Turn(role="system" if m.role == "developer" else m.role, content=m.content.strip())
        for m in body.messages
    ]
    if not turns[-1].content:
        raise ApiError(400, "The last message is empty.", param="messages")
    return turns


def _decoding(body: ChatRequest, limits: Limits) -> Decoding:
    """The client's choices over ours; more tokens than we give are an upper bound all the same."""
    default = Decoding()
    asked = body.max_completion_tokens or body.max_tokens or default.max_tokens
    return Decoding(
        max_tokens=min(asked, limits.answer_tokens),
        temperature=default.temperature if body.temperature is None else body.temperature,
        seed=(default.seed if body.seed is None else body.seed) % 2**32,
        stop=body.stops,
    )


def _seconds(request: Request, in_body: float | None) -> float | None:
    """The deadline that the client names; the nearer one where it names two."""
    header = request.headers.get(DEADLINE_HEADER)
    if header is None:
        return in_body
    try:
        seconds = float(header)
    except ValueError:
        seconds = math.nan
    if not (seconds > 0 and math.isfinite(seconds)):
        raise ApiError(400, f"{DEADLINE_HEADER} must be seconds above 0.", param=DEADLINE_HEADER)
    return seconds if in_body is None else min(seconds, in_body)


def _check_model(name: str, service: Service) -> None:
    if name not in (MODEL, service.deployment.release):
        raise ApiError(
            404,
            f"The model {name!r} is not served here. Use {MODEL!r}, or the current release's id.",
            param="model",
            code="model_not_found",
        )


def _check_texts(texts: Sequence[str], limits: Limits) -> None:
    if not 1 <= len(texts) <= limits.embedding_texts:
        raise ApiError(400, f"1 to {limits.embedding_texts} texts are taken.", param="input")
    for index, text in enumerate(texts):
        if not text.strip():
            raise ApiError(400, f"input[{index}] is empty.", param="input")


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": MODEL}


def _headers(job: Job) -> dict[str, str]:
    found = {RELEASE_HEADER: job.release, TRACE_HEADER: job.trace}
    return found | ({"traceparent": parent} if (parent := job.spans.traceparent) else {})


def _route(path: str) -> str:
    """A label of few values: the path may be anything."""
    known = {"/v1/chat/completions": "chat", "/v1/embeddings": "embeddings"}
    return known.get(path, "other")


def _outcome(status: int) -> str:
    return "error" if status >= 500 else "rejected" if status == 429 else "invalid"


def _only_this_machine(request: Request) -> None:
    caller: Caller | None = request.state.caller
    if caller is not None and caller.is_local:
        return  # its key lies in a file of this machine; the address may be another of its own
    if request.client is None or not is_loopback(request.client.host):
        raise ApiError(403, "Only this machine may do that.", code="forbidden")


class BodyLimit:
    """Refuses bodies above `MAX_BODY_BYTES`, announced or not, and those that trickle in."""

    def __init__(self, app: ASGIApp, *, seconds: float) -> None:
        self._app, self._seconds = app, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        read, whole = 0, False
        until = asyncio.get_running_loop().time() + self._seconds

        async def limited() -> Message:
            nonlocal read, whole
            if whole:  # what comes next is that the client leaves, whenever that is
                return await receive()
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError as error:
                told = f"The body took longer than {self._seconds:g} s to arrive."
                raise HTTPException(408, told) from error
            whole = not message.get("more_body", False)
            read += len(message.get("body", b""))
            if read > MAX_BODY_BYTES:
                raise HTTPException(413, f"The body is larger than {MAX_BODY_BYTES} bytes.")
            return message

        await self._app(scope, limited, send)
