"""The door of the endpoint's HTTP: which route needs what of an API key.

Knows routes, scopes and the `Authorization` header; whose key is good is the key ring's business.
A route that is not named here needs a key: forgetting one closes it.
"""

from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from headwater.serving.key_ring import Caller, KeyRing
from headwater.serving.keys import Scope as KeyScope
from headwater.serving.openai_types import ApiError

#: Routes with the scopes of which a caller needs one. All others need any key.
NEEDS: dict[str, tuple[KeyScope, ...]] = {
    "/v1/chat/completions": ("chat",),
    "/v1/embeddings": ("embeddings",),
    "/v1/documents": ("chat", "feedback"),
    "/v1/feedback": ("feedback",),
    "/v1/rating": ("feedback",),
    "/v1/rating/next": ("feedback",),
    "/v1/outliers": ("feedback",),
    "/metrics": ("metrics",),
}
#: Open to everybody: the pages hold nothing, probes tell nothing, `/admin` looks at the address.
_OPEN = ("/", "/rate", "/outliers", "/healthz", "/readyz")
_OPEN_BELOW = ("/pages/", "/admin/")


class KeyGate:
    """Lets a request through with its caller in `request.state.caller`, or answers it.

    Args:
        app: what is behind the door.
        ring: tells callers.
        refuse: makes the response to a path's error.
    """

    def __init__(
        self, app: ASGIApp, *, ring: KeyRing, refuse: Callable[[str, ApiError], Response]
    ) -> None:
        self._app, self._ring, self._refuse = app, ring, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path: str = scope["path"]
            try:
                caller = self._caller(path, Headers(scope=scope).get("authorization"))
            except ApiError as error:
                await self._refuse(path, error)(scope, receive, send)
                return
            scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send)

    def _caller(self, path: str, authorization: str | None) -> Caller | None:
        """Who may have this path; None for whoever shows no good key where none is needed."""
        try:
            caller = self._ring.caller(authorization)
        except ApiError:
            if is_open(path):
                return None
            raise
        if is_open(path):
            return caller
        needed = NEEDS.get(path, caller.scopes)
        if not set(needed) & set(caller.scopes):
            raise ApiError(
                403,
                f"This API key lacks the scope {' or '.join(needed)}.",
                kind="permission_error",
                code="missing_scope",
            )
        self._ring.count(caller)
        return caller


def is_open(path: str) -> bool:
    """Whether a path is answered without a key."""
    return path in _OPEN or path.startswith(_OPEN_BELOW)
