"""Routes for outlying documents: which are to be judged, and what a person says of them.

Knows the wire format and its limits. Only a text that the last map showed can be judged, and only
one that was judged can be taken back; what a verdict does is the next build's business.
"""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from headwater.datasets.golden import read_golden
from headwater.datasets.outliers import ASKED, OutlyingDocument, read_outliers, to_ask
from headwater.lake import Lake
from headwater.serving.feedback_routes import Name
from headwater.serving.openai_types import ApiError
from headwater.serving.service import Service
from headwater.serving.verdict_log import Verdict, VerdictEntry, VerdictLog, Verdicts, log_folder

#: Verdicts that are shown, the newest.
_SHOWN = 200


class VerdictRequest(BaseModel):
    """Body of POST /v1/outliers; `id` is of the text."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(max_length=64)
    verdict: Verdict
    user: Name | None = None


class _Desk:
    """What the routes share; it lives as long as the server runs."""

    def __init__(self, service: Service) -> None:
        self._settings = service.settings
        self.log = VerdictLog(log_folder(service.settings))
        self._verdicts = Verdicts(service.settings)
        self._lock = threading.Lock()

    def judged(self) -> dict[str, VerdictEntry]:
        """What stands, by the text's id."""
        with self._lock:
            return dict(self._verdicts.read())

    def asked(self, judged: dict[str, VerdictEntry]) -> list[OutlyingDocument]:
        """What nobody has judged yet, the farthest first."""
        golden = read_golden(Lake(self._settings.lake))
        return to_ask(read_outliers(self._settings), judged=judged, golden=golden)


def outlier_router(service: Service) -> APIRouter:
    """GET and POST /v1/outliers."""
    desks: list[_Desk] = []

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        desks.append(_Desk(service))
        try:
            yield
        finally:
            await asyncio.to_thread(desks.pop().log.close)

    router = APIRouter(lifespan=lifespan)

    @router.get("/v1/outliers")
    def outliers() -> Response:
        [desk] = desks
        judged = desk.judged()
        asked = desk.asked(judged)
        newest = sorted(judged.values(), key=lambda each: (each.time, each.id), reverse=True)
        service.metrics.requests.labels("outliers", "ok").inc()
        return JSONResponse(
            {
                "asked": [_shown(each) for each in asked[:ASKED]],
                "waiting": len(asked),
                "judged": [_said(each) for each in newest[:_SHOWN]],
            }
        )

    @router.post("/v1/outliers")
    def judge(body: VerdictRequest, request: Request) -> Response:
        [desk] = desks
        judged = desk.judged()
        about: OutlyingDocument | VerdictEntry | None = judged.get(body.id)
        if about is None and body.verdict != "withdraw":
            about = next((each for each in desk.asked(judged) if each.id == body.id), None)
        if about is None:
            raise ApiError(
                404,
                "There is no such text to judge. Ask for the list again.",
                param="id",
                code="outlier_not_found",
            )
        entry = VerdictEntry(
            time=datetime.now(UTC),
            id=about.id,
            uri=about.uri,
            digest=about.digest,
            title=about.title,
            verdict=body.verdict,
            user=body.user or "",
            key=request.state.caller.key,
        )
        desk.log.append(entry)
        service.metrics.requests.labels("outliers", "ok").inc()
        return JSONResponse({"id": entry.id, "verdict": entry.verdict}, status_code=201)

    return router


def _shown(document: OutlyingDocument) -> dict[str, Any]:
    names = ("id", "uri", "title", "heading", "start", "end", "text", "distance", "nearest")
    return {name: getattr(document, name) for name in names}


def _said(entry: VerdictEntry) -> dict[str, Any]:
    names = ("id", "uri", "title", "verdict", "by")
    return {**{name: getattr(entry, name) for name in names}, "time": entry.time.isoformat()}
