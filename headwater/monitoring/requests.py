"""A day of the endpoint's request log becomes a partition of the lake's `requests` table.

Knows the log and the lake, not what requests mean.
"""

from headwater.lake import Lake
from headwater.monitoring.days import IngestStats, as_day, ingest
from headwater.serving.request_log import read_requests
from headwater.settings import Settings

#: Part of the digest of a day: change it when the same log gives other rows.
STAGE_VERSION = "1"


def ingest_day(lake: Lake, settings: Settings, day: str) -> IngestStats:
    """Replace a day of `requests` with what the log holds; the same log twice writes once.

    Args:
        day: UTC date, `YYYY-MM-DD`.

    Raises:
        HeadwaterError: `day` is no date.
    """
    day = as_day(day)
    return ingest(lake, "requests", day, read_requests(settings, day), version=STAGE_VERSION)
