"""The trace of one request: OpenTelemetry spans, and what the request log keeps of them.

Knows OpenTelemetry and our names; not HTTP, nor what the stages do. An attribute never holds a
question or an answer: those stand in the log alone, redacted.
"""

import json
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.id_generator import IdGenerator
    from opentelemetry.trace import Link, Span, SpanContext, Tracer

    from headwater.serving.metrics import Metrics

Attribute = str | bool | int | float | Sequence[str] | Sequence[float]
SpanName = Literal[
    "queue", "guard.question", "retrieve", "guard.documents", "prompt", "generate",
    "guard.answer", "log",
]  # fmt: skip
#: OpenTelemetry's conventions for generative AI are not stable yet: the names are copied, as it
#: advises, and a test holds them against the installed conventions.
OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_MAX_TOKENS = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE = "gen_ai.request.temperature"
REQUEST_SEED = "gen_ai.request.seed"
RESPONSE_MODEL = "gen_ai.response.model"
FINISH_REASONS = "gen_ai.response.finish_reasons"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
_ERROR = "error.type"
_NS_A_MS = 1e6
#: Where a collector listens: for traces alone, or for all signals.
_TRACES_URL, _ANY_URL = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"


class Note(Protocol):
    """Tells a span what has been found out."""

    def __call__(self, attributes: Mapping[str, Attribute], /) -> None: ...


class Stages(Protocol):
    """What an answer in the making needs of a trace."""

    def span(self, name: SpanName) -> AbstractContextManager[Note]:
        """A stage that lasts as long as the block."""

    def past(
        self, name: SpanName, started: float, attributes: Mapping[str, Attribute] | None = None
    ) -> None:
        """A stage that began at `started` (of `time.perf_counter`) and has just ended."""


class Untraced:
    """Stages that nobody follows."""

    def span(self, name: SpanName) -> AbstractContextManager[Note]:
        return nullcontext(lambda _: None)

    def past(
        self, name: SpanName, started: float, attributes: Mapping[str, Attribute] | None = None
    ) -> None:
        pass


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanRecord:
    """One span as the log keeps it.

    Attributes:
        parent: id of the span it is a part of; empty for the request itself.
        start_ms: since the request's arrival.
        ms: how long it took; None where it was not over when this was written.
        error: what it failed of, empty where it did not.
        links: spans of others that it belongs to, as "trace-span" in hexadecimal digits.
        attributes: one JSON object.
    """

    id: str
    parent: str
    name: str
    start_ms: float
    ms: float | None
    error: str
    links: tuple[str, ...]
    attributes: str


class Tracing:
    """Makes traces, and exports them where the environment names a collector.

    The SDK's provider is our own, not the process's: MLflow has one too.

    Args:
        metrics: counts what was exported and what was dropped.
    """

    def __init__(self, metrics: "Metrics") -> None:
        from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON

        resource = Resource.create(
            {
                SERVICE_NAME: os.environ.get("OTEL_SERVICE_NAME", "headwater"),
                SERVICE_INSTANCE_ID: uuid.uuid4().hex,
            }
        )
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,  # every request is logged, whatever the environment samples
            resource=resource,
            shutdown_on_exit=False,
            id_generator=_unguessable_ids(),
        )
        if url := collector_url(os.environ):
            from headwater.serving.otlp import OtlpExport

            self._provider.add_span_processor(OtlpExport(url, counted=metrics.spans))
        self._tracer = self._provider.get_tracer("headwater")

    def start(self, *, caller: str | None = None, twin: "Trace | None" = None) -> "Trace":
        """The trace of a request that has just arrived.

        Args:
            caller: the W3C `traceparent` that came with it. Our trace keeps an id of its own,
                which nobody else can choose, and is linked with the caller's.
            twin: a trace of the same request, answered by another release.
        """
        linked = [_context_of(caller), twin.context if twin else None]
        return Trace(self._tracer, [context for context in linked if context is not None])

    def close(self) -> None:
        """Export what is waiting, as far as that is quick."""
        self._provider.shutdown()


class Trace:
    """The spans of one request. One thread at a time; a span is whole once its stage has ended.

    Attributes:
        id: the trace's, 32 hexadecimal digits.
        started: when the request arrived, of `time.perf_counter`.
        context: of the span `request`, which the others are parts of.
    """

    def __init__(self, tracer: "Tracer", linked: Sequence["SpanContext"]) -> None:
        from opentelemetry.context import Context
        from opentelemetry.trace import Link, SpanKind, format_trace_id, set_span_in_context

        self._tracer = tracer
        # Spans are placed by a clock that never goes back, from one reading of the calendar's.
        self.started = time.perf_counter()
        self._clock = time.time_ns() - time.perf_counter_ns()
        self._arrived = self._at(self.started)
        self._root = tracer.start_span(
            "request",
            context=Context(),  # never a part of what else this thread may be at
            kind=SpanKind.SERVER,
            links=[Link(context) for context in linked],
            start_time=self._arrived,
        )
        self._spans = [self._root]
        self._inside = set_span_in_context(self._root, Context())
        self.context = self._root.get_span_context()
        # The user may have turned the SDK off (OTEL_SDK_DISABLED): a request has a name all the same.
        self.id = format_trace_id(self.context.trace_id) if self.context.is_valid else _new_id()

    @property
    def traceparent(self) -> str:
        """The W3C header by which the caller finds this trace."""
        return f"00-{self.id}-{self.context.span_id:016x}-01" if self.context.is_valid else ""

    def __enter__(self) -> "Trace":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.fail(kind.__name__)
        self.end()

    def span(self, name: SpanName) -> "_Stage":
        """A stage that lasts as long as the block."""
        return _Stage(self, self._start(name, self._now()))

    def past(
        self, name: SpanName, started: float, attributes: Mapping[str, Attribute] | None = None
    ) -> None:
        """A stage that began at `started` (of `time.perf_counter`) and has just ended."""
        span = self._start(name, self._at(started))
        _note(span, attributes or {})
        span.end(self._now())

    def note(self, attributes: Mapping[str, Attribute]) -> None:
        """Say something of the request as a whole."""
        _note(self._root, attributes)

    def fail(self, reason: str) -> None:
        """The request has failed."""
        _fail(self._root, reason)

    def end(self) -> None:
        """The request is over."""
        self._root.end(self._now())

    def records(self) -> tuple[SpanRecord, ...]:
        """All spans so far, as the log keeps them."""
        from opentelemetry.sdk.trace import ReadableSpan

        found = [span for span in self._spans if isinstance(span, ReadableSpan)]
        return tuple(
            SpanRecord(
                id=f"{span.context.span_id:016x}",
                parent=f"{span.parent.span_id:016x}" if span.parent else "",
                name=span.name,
                start_ms=self._ms(span.start_time, self._arrived),
                ms=self._ms(span.end_time, span.start_time) if span.end_time else None,
                error=span.status.description or "",
                links=tuple(_linked(link) for link in span.links),
                attributes=json.dumps(dict(span.attributes or {}), ensure_ascii=False),
            )
            for span in found
        )

    def _start(self, name: SpanName, started: int) -> "Span":
        span = self._tracer.start_span(name, context=self._inside, start_time=started)
        self._spans.append(span)
        return span

    def _end(self, span: "Span") -> None:
        span.end(self._now())

    def _at(self, started: float) -> int:
        return round(started * 1e9) + self._clock

    def _now(self) -> int:
        return time.perf_counter_ns() + self._clock

    @staticmethod
    def _ms(later: int | None, earlier: int | None) -> float:
        return round(((later or 0) - (earlier or 0)) / _NS_A_MS, 3)


class _Stage:
    """A span as a block; what a stage raises, it fails of, unless its reader has broken it off."""

    def __init__(self, trace: Trace, span: "Span") -> None:
        self._trace, self._span = trace, span

    def __enter__(self) -> Note:
        return self._note

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None and not issubclass(kind, GeneratorExit):
            _fail(self._span, kind.__name__)
        self._trace._end(self._span)

    def _note(self, attributes: Mapping[str, Attribute], /) -> None:
        _note(self._span, attributes)


def collector_url(environment: Mapping[str, str]) -> str:
    """Where OTLP/HTTP takes traces, by OpenTelemetry's own variables; empty where none is named."""
    if url := environment.get(_TRACES_URL, "").strip():
        return url
    base = environment.get(_ANY_URL, "").strip().rstrip("/")
    return f"{base}/v1/traces" if base else ""


def _note(span: "Span", attributes: Mapping[str, Attribute]) -> None:
    for name, value in attributes.items():
        span.set_attribute(name, value)


def _fail(span: "Span", reason: str) -> None:
    """Name the kind of error only: its message may quote what was asked."""
    from opentelemetry.trace import StatusCode

    span.set_attribute(_ERROR, reason)
    span.set_status(StatusCode.ERROR, reason)


def _linked(link: "Link") -> str:
    return f"{link.context.trace_id:032x}-{link.context.span_id:016x}"


def _context_of(traceparent: str | None) -> "SpanContext | None":
    """The caller's span; None where the header is missing or wrong. `tracestate` is not read."""
    from opentelemetry.trace import get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    if not traceparent:
        return None
    carrier = {"traceparent": traceparent}
    found = get_current_span(TraceContextTextMapPropagator().extract(carrier)).get_span_context()
    return found if found.is_valid else None


def _new_id() -> str:
    return uuid.uuid4().hex


def _unguessable_ids() -> "IdGenerator":
    """Traces from the system's randomness: who knows one may give feedback on it."""
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Unguessable(RandomIdGenerator):
        def generate_trace_id(self) -> int:
            return int(_new_id(), 16)

    return Unguessable()
