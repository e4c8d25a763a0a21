"""Sends ended spans to an OpenTelemetry collector: OTLP over HTTP, protobuf, in batches.

Knows the protocol, not requests. It never makes a request wait or fail: what does not fit into its
queue, or is not taken after a few attempts, is dropped and counted.
"""

import logging
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from urllib.parse import unquote

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import (
    AnyValue,
    ArrayValue,
    InstrumentationScope,
    KeyValue,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.trace import StatusCode
from prometheus_client import Counter

log = logging.getLogger("headwater")

#: Spans that may wait; about 900 requests.
CAPACITY = 8192
_BATCH = 512
#: Seconds that a batch waits for more, that one attempt may take, and that the end may take.
_GATHER, _TIMEOUT, _LAST = 1.0, 10.0, 5.0
#: Seconds before each further attempt.
_AGAIN = (1.0, 4.0)
#: What the protocol says may be sent again.
_BUSY = (429, 502, 503, 504)
_TYPE = "application/x-protobuf"
_HEADERS = ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS")


class OtlpExport(SpanProcessor):
    """Takes ended spans and sends them from a thread of its own.

    Args:
        url: takes POSTs of traces.
        headers: sent with each, for example a token.
        counted: by outcome, "exported" or "dropped".
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        counted: Counter,
    ) -> None:
        self._url = url
        self._exported, self._dropped = counted.labels("exported"), counted.labels("dropped")
        self._waiting: queue.Queue[ReadableSpan | None] = queue.Queue(CAPACITY)
        self._ending = threading.Event()
        self._well = True
        self._client = httpx.Client(headers={**headers, "Content-Type": _TYPE}, timeout=_TIMEOUT)
        self._thread = threading.Thread(target=self._run, name="headwater-otlp", daemon=True)
        self._thread.start()

    def on_end(self, span: ReadableSpan) -> None:
        try:
            self._waiting.put_nowait(span)
        except queue.Full:
            self._dropped.inc()

    def shutdown(self) -> None:
        """Send what waits, each batch once, unless that takes long."""
        self._ending.set()
        with suppress(queue.Full):  # then it is awake
            self._waiting.put_nowait(None)
        self._thread.join(_LAST)

    def _run(self) -> None:
        while not (self._ending.is_set() and self._waiting.empty()):
            batch = self._gather()
            if not batch:
                continue
            try:
                refused = self._send(batch)
            except Exception as error:  # noqa: BLE001 - nobody waits for it; it is counted and told
                self._tell(f"{type(error).__name__}: {error}")
                refused = len(batch)
            self._dropped.inc(refused)
            self._exported.inc(len(batch) - refused)
        self._client.close()

    def _gather(self) -> list[ReadableSpan]:
        """The next batch; waits for its first span as long as it takes."""
        batch = [self._waiting.get()]
        until = time.monotonic() + _GATHER
        while len(batch) < _BATCH and batch[-1] is not None:
            left = 0.0 if self._ending.is_set() else until - time.monotonic()
            try:
                batch.append(
                    self._waiting.get(timeout=left) if left > 0 else self._waiting.get_nowait()
                )
            except queue.Empty:
                break
        return [span for span in batch if span is not None]

    def _send(self, batch: Sequence[ReadableSpan]) -> int:
        """Returns how many spans were not taken."""
        body = encode(batch).SerializeToString()
        problem = ""
        for wait in (0.0, *_AGAIN):
            # The end interrupts the wait, and is no time for further attempts.
            if wait and self._ending.wait(wait):
                break
            try:
                reply = self._client.post(self._url, content=body)
            except httpx.TransportError as error:
                problem = f"{type(error).__name__}: {error}"
                continue
            if reply.is_success:
                self._well = True
                return min(len(batch), _refused(reply))
            problem = f"HTTP {reply.status_code}"
            if reply.status_code not in _BUSY:
                break
        self._tell(problem)
        return len(batch)

    def _tell(self, problem: str) -> None:
        """Say once that it does not work, until it has worked again."""
        if self._well:
            log.warning("endpoint: spans are not exported: %s", problem)
        self._well = False


def _refused(reply: httpx.Response) -> int:
    """Spans that the collector took note of and did not take."""
    if not reply.headers.get("content-type", "").startswith(_TYPE):
        return 0
    return ExportTraceServiceResponse.FromString(reply.content).partial_success.rejected_spans


def headers_of(environment: Mapping[str, str]) -> dict[str, str]:
    """The collector's headers by OpenTelemetry's own variables: `name=value`, by commas."""
    pairs = ",".join(environment.get(name, "") for name in _HEADERS).split(",")
    split = (pair.partition("=") for pair in pairs if "=" in pair)
    return {name.strip().lower(): unquote(value.strip()) for name, _, value in split}


def encode(spans: Sequence[ReadableSpan]) -> ExportTraceServiceRequest:
    """Spans of one provider and scope, at least one, as the protocol's message."""
    resource, scope = spans[0].resource, spans[0].instrumentation_scope
    return ExportTraceServiceRequest(
        resource_spans=[
            ResourceSpans(
                resource=Resource(attributes=_attributes(resource.attributes)),
                scope_spans=[
                    ScopeSpans(
                        scope=InstrumentationScope(name=scope.name if scope else ""),
                        spans=[_span(span) for span in spans],
                    )
                ],
            )
        ]
    )


def _span(span: ReadableSpan) -> Span:
    context = span.context
    failed = span.status.status_code is StatusCode.ERROR
    return Span(
        trace_id=_id(context.trace_id, 16),
        span_id=_id(context.span_id, 8),
        parent_span_id=_id(span.parent.span_id, 8) if span.parent else b"",
        flags=int(context.trace_flags) & 0xFF,
        name=span.name,
        kind=Span.SpanKind.ValueType(span.kind.value + 1),  # the protocol has "unspecified" first
        start_time_unix_nano=span.start_time or 0,
        end_time_unix_nano=span.end_time or 0,
        attributes=_attributes(span.attributes or {}),
        links=[
            Span.Link(trace_id=_id(link.context.trace_id, 16), span_id=_id(link.context.span_id, 8))
            for link in span.links
        ],
        status=Status(
            code=Status.STATUS_CODE_ERROR if failed else Status.STATUS_CODE_UNSET,
            message=span.status.description or "",
        ),
    )


def _id(number: int, size: int) -> bytes:
    return number.to_bytes(size, "big")


def _attributes(attributes: Mapping[str, object]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_value(value)) for key, value in attributes.items()]


def _value(value: object) -> AnyValue:
    match value:
        case bool():  # before int, which it is too
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case list() | tuple():
            return AnyValue(array_value=ArrayValue(values=[_value(each) for each in value]))
        case _:
            return AnyValue(string_value=str(value))
