"""What the endpoint counts, in Prometheus' format. Knows names and labels, not requests."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

#: Codes of errors that are counted as refusals; others say that a request was wrong, or we were.
REASONS = frozenset(
    {
        "missing_api_key",
        "invalid_api_key",
        "expired_api_key",
        "revoked_api_key",
        "missing_scope",
        "rate_limit_exceeded",
        "insufficient_quota",
        "concurrency_limit_exceeded",
        "queue_full",
        "deadline_exceeded",
        "request_timeout",
        "request_too_large",
    }
)


class Metrics:
    """The counters of one endpoint, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "headwater_requests",
            "Requests by route and outcome (ok, aborted, deadline, error, invalid, rejected).",
            ["route", "outcome"],
            registry=self.registry,
        )
        self.rejected = Counter(
            "headwater_rejected",
            "Requests that were refused or given up, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.arms = Counter(
            "headwater_arm_requests",
            "Chat requests by arm (champion, canary, shadow) and outcome (ok, error).",
            ["arm", "outcome"],
            registry=self.registry,
        )
        self.seconds = self._histogram("request_seconds", "Arrival to the end of the answer.")
        self.first_token = self._histogram("first_token_seconds", "Arrival to the first token.")
        self.waited = self._histogram("queue_seconds", "Arrival to the start of the work.")
        self.retrieve = self._histogram("retrieve_seconds", "Encoding the question and search.")
        self.generate = self._histogram("generate_seconds", "Prompt processing and generation.")
        self.log = self._histogram("request_log_seconds", "Making the log entry durable.")
        self.tokens = Counter(
            "headwater_tokens",
            "Tokens of prompts and answers.",
            ["kind"],
            registry=self.registry,
        )
        self.refused = Counter(
            "headwater_refused", "Answers that no document supports.", registry=self.registry
        )
        self.guard = Counter(
            "headwater_guard_decisions",
            "Decisions of the guards by rule and action (allowed, redacted, refused, dropped, removed).",
            ["rule", "action"],
            registry=self.registry,
        )
        self.guard_seconds = self._histogram(
            "guard_seconds", "All guards of one request.", (0.001, 0.0025, 0.005, *_SECONDS)
        )
        self.energy = Counter(
            "headwater_energy_wh",
            "Watt-hours of answering, estimated from the time that cores were busy.",
            registry=self.registry,
        )
        self.cost = Counter(
            "headwater_cost",
            "Cost of answering at the prices of the monitoring policy, in their currency.",
            registry=self.registry,
        )
        self.spans = Counter(
            "headwater_spans",
            "Spans for the collector by outcome (exported, dropped).",
            ["outcome"],
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "headwater_in_flight", "Requests at work or waiting.", registry=self.registry
        )
        self.swaps = Counter(
            "headwater_swaps",
            "Attempts to load a release (ok, failed).",
            ["outcome"],
            registry=self.registry,
        )
        self.release = Gauge(
            "headwater_release_info",
            "1 for the release that answers new requests.",
            ["release"],
            registry=self.registry,
        )

    def reject(self, code: str | None) -> None:
        """Count a refusal by its error code, where it is one of those that are counted."""
        if code in REASONS:
            self.rejected.labels(code).inc()

    def set_release(self, release: str) -> None:
        """Tell which release answers from now on."""
        self.release.clear()
        self.release.labels(release).set(1)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def _histogram(self, name: str, what: str, buckets: tuple[float, ...] = _SECONDS) -> Histogram:
        return Histogram(f"headwater_{name}", what, buckets=buckets, registry=self.registry)
