"""Routes for people: the pages, their files, and the text that a citation stands in.

The pages are static; all that they show comes from the API and is put in as text. Their policy
lets no script run but our own, and nothing be fetched from elsewhere.
"""

from functools import cache
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response

from headwater.serving.openai_types import ApiError
from headwater.serving.service import Service
from headwater.serving.source_text import source_text

_FOLDER = Path(__file__).with_name("pages")
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
#: Bytes of a span at most; a chunk has far fewer.
_LONGEST_SPAN = 20_000
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self';"
    " base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def pages_router(service: Service) -> APIRouter:
    """GET /, /rate and /outliers, the files they need, and GET /v1/documents."""
    router = APIRouter()

    @router.get("/", include_in_schema=False)
    async def playground() -> Response:
        return _file("playground.html")

    @router.get("/rate", include_in_schema=False)
    async def rate() -> Response:
        return _file("rate.html")

    @router.get("/outliers", include_in_schema=False)
    async def outliers() -> Response:
        return _file("outliers.html")

    @router.get("/pages/{name}", include_in_schema=False)
    async def file(name: str) -> Response:
        return _file(name)

    @router.get("/v1/documents")
    def document(
        uri: Annotated[str, Query(min_length=1, max_length=2_048)],
        start: Annotated[int, Query(ge=0, lt=2**40)],
        end: Annotated[int, Query(ge=0, lt=2**40)],
    ) -> dict[str, Any]:
        """The text around a span of a document that we have; offsets in bytes."""
        if not start <= end <= start + _LONGEST_SPAN:
            raise ApiError(400, f"end must be start to start + {_LONGEST_SPAN}.", param="end")
        found = source_text(service.settings, uri, start, end)
        if found is None:
            raise ApiError(
                404, "There is no such document here.", param="uri", code="document_not_found"
            )
        return found

    return router


def _file(name: str) -> Response:
    """A page, or a file that pages need; nothing but what lies in the folder."""
    content = _files().get(name)
    if content is None:
        raise ApiError(404, "There is no such page.", code="not_found")
    return Response(content, media_type=_TYPES[Path(name).suffix], headers=_HEADERS)


@cache
def _files() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in _FOLDER.iterdir() if path.suffix in _TYPES}
