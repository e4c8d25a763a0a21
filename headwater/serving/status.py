"""What `headwater status` tells: the release that serves, how it was judged, the endpoint."""

from typing import Any

from headwater.release import manifest, pointer
from headwater.serving.client import find_endpoint
from headwater.settings import Settings


def status(settings: Settings) -> dict[str, Any]:
    """The present state as plain JSON; `release` is None before the first build."""
    running = find_endpoint(settings)
    endpoint = {
        "url": running.url if running else None,
        "ready": running is not None and running.ready,
        "release": running.release if running else None,
    }
    current = pointer.current(settings)
    if current is None:
        return {"release": None, "evaluation": None, "endpoint": endpoint}
    release = manifest.load(settings, current)
    return {
        "release": {
            "id": release.id,
            "base_model": release.base_model.name,
            "adapter": release.adapter.id if release.adapter else None,
            "prompt": release.prompt.digest,
            "index": release.index,
            "created": release.created,
            "run": release.run_id,
            "commit": release.commit,
        },
        "provisional": release.provisional,
        "gates": [dict(gate) for gate in release.gates],
        "evaluation": dict(release.evaluation),
        "endpoint": endpoint,
    }
