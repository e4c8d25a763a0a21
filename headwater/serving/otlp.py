"""Sends ended spans to an OpenTelemetry collector with OpenTelemetry's own exporter.

Adds to it what an endpoint needs: it never makes a request wait or fail, what is lost is counted,
and the end is quick though nobody listens.
"""

import threading
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from prometheus_client import Counter

#: Spans that may wait or be on their way; about 900 requests.
CAPACITY = 8192
#: Seconds after which the end gives up further attempts.
_LAST = 5.0


class OtlpExport(SpanProcessor):
    """Takes ended spans and sends them in batches from a thread of their own.

    OpenTelemetry's variables say how: `OTEL_EXPORTER_OTLP_*` the headers, the timeout and the
    certificates, `OTEL_BSP_*` the batches.

    Args:
        url: takes POSTs of traces.
        counted: by outcome, "exported" or "dropped".
    """

    def __init__(self, url: str, *, counted: Counter) -> None:
        self._dropped = counted.labels("dropped")
        # The batches' own queue drops the oldest and tells only its log: so it is never full.
        self._room = threading.Semaphore(CAPACITY)
        self._exporter = _Counted(OTLPSpanExporter(url), counted, self._room)
        self._batches = BatchSpanProcessor(self._exporter, max_queue_size=CAPACITY)

    def on_end(self, span: ReadableSpan) -> None:
        if self._room.acquire(blocking=False):
            self._batches.on_end(span)
        else:
            self._dropped.inc()

    def shutdown(self) -> None:
        """Send what waits, unless that takes long."""
        enough = threading.Timer(_LAST, self._exporter.shutdown)
        enough.start()
        self._batches.shutdown()
        enough.cancel()


class _Counted(SpanExporter):
    """Counts what another exporter makes of its batches, and gives their room back."""

    def __init__(self, exporter: SpanExporter, counted: Counter, room: threading.Semaphore) -> None:
        self._exporter, self._counted, self._room = exporter, counted, room
        self._ending = threading.Lock()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            outcome = "exported" if result is SpanExportResult.SUCCESS else "dropped"
            self._counted.labels(outcome).inc(len(spans))
            self._room.release(len(spans))
        return result

    def shutdown(self) -> None:
        if self._ending.acquire(blocking=False):  # the first one alone: a second is warned of
            self._exporter.shutdown()
