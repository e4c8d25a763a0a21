"""A day of the endpoint's feedback log becomes a partition of the lake's `feedback` table.

Knows the log and the lake; what is made of corrections and ratings is the datasets' business.
"""

from headwater.lake import Lake
from headwater.monitoring.days import IngestStats, as_day, ingest
from headwater.serving.durable_log import LoggedDay
from headwater.serving.feedback_log import read_feedback
from headwater.settings import Settings

#: Part of the digest of a day: change it when the same log gives other rows.
STAGE_VERSION = "1"


def ingest_day(lake: Lake, settings: Settings, day: str) -> IngestStats:
    """Replace a day of `feedback` with what the log holds; what was said twice is one row.

    Args:
        day: UTC date, `YYYY-MM-DD`.

    Raises:
        HeadwaterError: `day` is no date.
    """
    day = as_day(day)
    logged = read_feedback(settings, day)
    # The later of two equal ones stays: somebody may have said something else in between.
    said = {row["id"]: row for row in logged.rows}
    once = LoggedDay(rows=tuple(said.values()), torn=logged.torn)
    return ingest(lake, "feedback", day, once, version=STAGE_VERSION)
