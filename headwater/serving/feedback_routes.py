"""Routes for what people say of answers: feedback on a trace, and ratings of pairs.

Knows the wire format and its limits; what is asked next and how it is kept is others' business.
"""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from headwater.serving.feedback_log import FeedbackEntry, FeedbackLog, Thumb, log_folder
from headwater.serving.openai_types import ApiError, Text, citation
from headwater.serving.rating import Choice, RatingDesk
from headwater.serving.recent import RecentTraces
from headwater.serving.service import Service

#: Pairs that may be asked for at once; each costs a generated answer.
_PAIRS_WAITING = 4
Name = Annotated[Text, StringConstraints(strip_whitespace=True, max_length=128)]
Tag = Annotated[Text, StringConstraints(strip_whitespace=True, min_length=1, max_length=40)]
Correction = Annotated[Text, StringConstraints(strip_whitespace=True, max_length=4_000)]


class FeedbackRequest(BaseModel):
    """Body of POST /v1/feedback. What is left out says nothing, and takes nothing back."""

    model_config = ConfigDict(extra="forbid")

    trace: str = Field(min_length=1, max_length=64)
    thumb: Thumb | None = None
    correction: Correction | None = None
    tags: list[Tag] = Field(default_factory=list, max_length=8)
    user: Name | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "FeedbackRequest":
        if not (self.thumb or self.correction or self.tags):
            raise ValueError("give a thumb, a correction or a tag")
        return self


class RatingRequest(BaseModel):
    """Body of POST /v1/rating; `id` is of the pair."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(max_length=64)
    choice: Choice
    user: Name | None = None


class _Desk:
    """What the routes share; it lives as long as the server runs."""

    def __init__(self, service: Service) -> None:
        self.recent = RecentTraces(service.settings)
        self.rating = RatingDesk(service.settings, service.deployment, self.recent)
        self.log = FeedbackLog(log_folder(service.settings))
        self.sampler = ThreadPoolExecutor(1, "headwater-rating")
        self.asking = 0

    def close(self) -> None:
        """End the work at hand and close the log."""
        self.sampler.shutdown(cancel_futures=True)
        self.log.close()


def feedback_router(service: Service) -> APIRouter:
    """POST /v1/feedback, GET /v1/rating/next and POST /v1/rating."""
    desks: list[_Desk] = []

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        desks.append(_Desk(service))
        try:
            yield
        finally:
            await asyncio.to_thread(desks.pop().close)

    router = APIRouter(lifespan=lifespan)

    @router.post("/v1/feedback")
    def feedback(body: FeedbackRequest) -> Response:
        [desk] = desks
        row = desk.recent.find(body.trace)
        if row is None:
            raise ApiError(
                404,
                "There is no such trace of today or yesterday. Send the X-Headwater-Trace header"
                " of the answer.",
                param="trace",
                code="trace_not_found",
            )
        entry = FeedbackEntry(
            time=datetime.now(UTC),
            trace=body.trace,
            release=row["release"],
            user=body.user or "",
            thumb=body.thumb,
            correction=body.correction or None,
            tags=tuple(dict.fromkeys(body.tags)),
        )
        return _record(desk, entry, "feedback")

    @router.get("/v1/rating/next")
    async def next_pair() -> Response:
        [desk] = desks
        if desk.asking >= _PAIRS_WAITING:
            raise ApiError(
                429,
                "Others wait for a pair already. Retry after 5 s.",
                kind="rate_limit_error",
                code="queue_full",
                retry_after=5,
            )
        desk.asking += 1
        try:
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(desk.sampler, desk.rating.next)
        finally:
            desk.asking -= 1
        service.metrics.requests.labels("rating", "ok").inc()
        if found is None:
            return Response(status_code=204)
        pair, waiting = found
        a, b = pair.sides
        passages = [citation(hit) for hit in pair.passages]
        reply = {"id": pair.id, "question": pair.row["question"], "a": a, "b": b}
        return JSONResponse({**reply, "passages": passages, "waiting": waiting})

    @router.post("/v1/rating")
    def rate(body: RatingRequest) -> Response:
        [desk] = desks
        pair = desk.rating.find(body.id)
        if pair is None:
            raise ApiError(
                404, "This pair is no longer open. Ask for the next.", code="pair_not_found"
            )
        entry = FeedbackEntry(
            time=datetime.now(UTC),
            trace=pair.row["trace"],
            release=pair.row["release"],
            user=body.user or "",
            rival=pair.rival,
            rival_release=pair.rival_release,
            preferred=pair.preferred(body.choice),
        )
        return _record(desk, entry, "rating")

    def _record(desk: _Desk, entry: FeedbackEntry, route: str) -> Response:
        desk.log.append(entry)
        service.metrics.requests.labels(route, "ok").inc()
        return JSONResponse({"id": entry.id}, status_code=201)

    return router
