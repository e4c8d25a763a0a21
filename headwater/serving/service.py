"""Requests in, answers out: admission, worker threads, cancellation, metrics and the log.

Knows neither HTTP nor how an answer is made. Every chat request that is admitted ends with one
log entry, which is durable before the answer is called final.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from headwater.documents.tokens import token_counter
from headwater.errors import HeadwaterError
from headwater.records import short
from headwater.release import traffic
from headwater.release.canary import Outcome, load_policy
from headwater.release.traffic import Arm
from headwater.serving.admission import DayTokens, Gate
from headwater.serving.answer import (
    DeadlineError,
    Decoding,
    Response,
    Turn,
    deadline_error,
)
from headwater.serving.canary import CanaryWatch, Deaths, died_too_often
from headwater.serving.entry import entry_of, ungrounded_of
from headwater.serving.errors import as_api_error
from headwater.serving.footprint import Meter
from headwater.serving.in_flight import InFlight
from headwater.serving.job import Finished, Job, Twin, client_of
from headwater.serving.key_ring import ANYBODY, Caller
from headwater.serving.metrics import Metrics
from headwater.serving.openai_types import ApiError
from headwater.serving.request_log import (
    RequestLog,
    Status,
    cut_entry,
    log_folder,
    read_requests,
    session_of,
    tokens_by_key,
)
from headwater.serving.runtime import Runtime, load_runtime
from headwater.serving.spans import Tracing
from headwater.serving.swap import Deployment
from headwater.settings import Settings

log = logging.getLogger("headwater")

#: What the encoder puts around a text.
_SPECIAL_TOKENS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one endpoint takes on."""

    # The engine generates one at a time; the second looks up its passages meanwhile. More would
    # wait for the engine, where a client that leaves is noticed only when its turn comes.
    workers: int = 2
    waiting: int = 32  # requests that may wait beyond those; more are told to come back
    share: float = 0.5  # part of all places that one key may hold, or one user where there are none
    deadline: float = 60.0  # seconds a request has where it names none
    longest_deadline: float = 300.0  # seconds it has at most, whatever it names
    head_seconds: float = 10.0  # for a request's head to arrive
    body_seconds: float = 30.0  # ... and for its body
    message_chars: int = 8_000
    messages: int = 64
    # Of all messages together. Of those the newest that the model's context holds are shown to it.
    prompt_tokens: int = 8_192
    answer_tokens: int = 512
    embedding_texts: int = 256
    embeddings_waiting: int = 8
    shadows_waiting: int = 4  # answers of a shadow at work or waiting; those beyond are left out


class Service:
    """The endpoint without its HTTP: a deployment, its workers, its log and its metrics.

    Args:
        settings: where releases lie and the log goes.
        limits: what it takes on.
        swapped: told the id of each release that begins to answer.
        load: loads a release by id; gets the runtime in force, to share what is equal.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        limits: Limits | None = None,
        swapped: Callable[[str], None] = lambda _: None,
        load: Callable[[Settings, str, Runtime | None], Runtime] = load_runtime,
    ) -> None:
        self.settings = settings
        self._tell, self._load_release = swapped, load
        self.limits = limits or Limits()
        self.metrics = Metrics()
        self._tracing = Tracing(self.metrics)
        self._meter = Meter(settings)
        self.deployment = Deployment(
            settings,
            self._load,
            swapped=self._swapped,
            failed=self._load_failed,
        )
        self.canary = CanaryWatch(settings, load_policy(), ended=self._canary_ended)
        self._answered: deque[float] = deque(maxlen=10_000)
        self._deaths = Deaths(settings.serving / "canary.json")
        self._log = RequestLog(log_folder(settings))
        self._in_flight = InFlight(settings.serving / "in_flight")
        share = self.limits.share
        self._chats = Gate(self.limits.workers + self.limits.waiting, share)
        self._embeddings = Gate(1 + self.limits.embeddings_waiting, share)
        self._tokens = DayTokens(tokens_by_key(settings, datetime.now(UTC).date().isoformat()))
        self._workers = ThreadPoolExecutor(self.limits.workers, "headwater-chat")
        self._late = ThreadPoolExecutor(1, "headwater-late")
        self._encoding = ThreadPoolExecutor(1, "headwater-embed")
        self._shadows = ThreadPoolExecutor(1, "headwater-shadow")
        self._shadow_free = threading.Semaphore(self.limits.shadows_waiting)

    def start(self) -> None:
        """Load the current release in the background and follow the pointer."""
        self._log_what_was_cut()
        self.deployment.start()

    def close(self) -> None:
        """End the work at hand, then free the release and close the log."""
        self._workers.shutdown()
        self._late.shutdown()
        self._shadows.shutdown()
        self._encoding.shutdown()
        self.deployment.close()
        self._deaths.forget()
        self._log.close()
        self._in_flight.close()
        self._tracing.close()

    def submit(
        self,
        turns: Sequence[Turn],
        decoding: Decoding,
        *,
        streamed: bool,
        user: str | None = None,
        parent: str | None = None,
        caller: Caller = ANYBODY,
        seconds: float | None = None,
    ) -> Job:
        """Take on a chat request.

        Args:
            user: names the user or session, who stays with one release while a canary runs.
            parent: W3C `traceparent` of the trace that it is a part of for whoever asks.
            caller: who pays for it.
            seconds: until its deadline; None for the default. The limits bound it.

        Raises:
            NotReadyError: no release is loaded.
            ApiError: too many wait already, or the caller has used its quota (429).
        """
        with self.deployment.lease():
            pass
        job = Job(
            turns,
            decoding,
            spans=self._tracing.start(caller=parent),
            streamed=streamed,
            user=user,
            caller=caller,
            seconds=self._seconds(seconds),
        )
        self._chats.enter(job.client)
        try:
            self._tokens.reserve(caller.key, caller.tokens_per_day, decoding.max_tokens)
        except ApiError:
            self._chats.leave(0.0, job.client)
            raise
        try:
            self._note(job)
        except HeadwaterError:
            self._settle(job, None)
            self._chats.leave(0.0, job.client)
            raise
        self.metrics.in_flight.inc()
        work = self._workers.submit(self._work, job)
        job.at_deadline(lambda: self._give_up(job, work))
        return job

    def _note(self, job: Job) -> None:
        """Keep what a kill must not make unknown."""
        session = session_of(job.key)
        self._in_flight.note(
            job.trace, time=job.time, session=session, key=job.caller.key, streamed=job.streamed
        )

    def _log_what_was_cut(self) -> None:
        """Give an entry to each request that an endpoint was killed with: its client saw a cut."""
        for facts in self._in_flight.left_behind():
            days = {fact["time"][:10] for fact in facts.values() if "time" in fact}
            rows = [row for day in days for row in read_requests(self.settings, day).rows]
            logged = {row["trace"] for row in rows}
            cut = {t: f for t, f in facts.items() if "time" in f and t not in logged}
            for trace, fact in cut.items():
                self._log.append(cut_entry(trace, **fact))
            if cut:
                log.warning("endpoint: %d requests were cut off by a kill", len(cut))

    def _seconds(self, asked: float | None) -> float:
        limits = self.limits
        return min(limits.deadline if asked is None else asked, limits.longest_deadline)

    def _give_up(self, job: Job, work: Future[None]) -> None:
        """The deadline has passed: a job that no worker has begun ends here, in the event loop."""
        if work.cancel():
            self._late.submit(self._conclude, job, None, "deadline", as_api_error(deadline_error()))

    def recent_answers(self) -> int:
        """Answers of the champion in the last minutes that the canary's policy names."""
        since = time.monotonic() - 60 * self.canary.policy.recent_minutes
        return sum(answered > since for answered in tuple(self._answered))

    async def embed(
        self,
        texts: Sequence[str],
        *,
        user: str | None = None,
        caller: Caller = ANYBODY,
        seconds: float | None = None,
    ) -> tuple[npt.NDArray[np.float32], int, str]:
        """Vectors of texts, their tokens in all, and the release whose encoder made them.

        Args:
            user, caller, seconds: as for `submit`.

        Raises:
            ApiError: too many requests wait or the caller has used its quota (429), a text is
                longer than the encoder reads, or the deadline has passed (504).
        """
        client = client_of(caller, user)
        self._embeddings.enter(client)
        try:
            self._tokens.reserve(caller.key, caller.tokens_per_day, 0)
        except ApiError:
            self._embeddings.leave(0.0, client)
            raise
        started, day = time.perf_counter(), datetime.now(UTC).date().isoformat()
        future = self._encoding.submit(self._embed, texts)

        def ended(done: Future[tuple[npt.NDArray[np.float32], int, str]]) -> None:
            self._embeddings.leave(time.perf_counter() - started, client)
            if not done.cancelled() and done.exception() is None:
                self._tokens.settle(caller.key, 0, day=day, tokens=done.result()[1])

        future.add_done_callback(ended)
        try:  # one that waits is dropped; one at work ends, for its texts are few
            return await asyncio.wait_for(asyncio.wrap_future(future), self._seconds(seconds))
        except TimeoutError as error:
            raise as_api_error(deadline_error()) from error

    def _embed(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.float32], int, str]:
        with self.deployment.lease() as runtime:
            counts = [_SPECIAL_TOKENS + count for count in self._count_tokens(texts)]
            if (longest := max(counts)) > runtime.encoder.max_tokens:
                raise ApiError(
                    400,
                    f"input[{counts.index(longest)}] has {longest} tokens, and the embedding"
                    f" model reads {runtime.encoder.max_tokens}. Split it.",
                    param="input",
                    code="context_length_exceeded",
                )
            return runtime.encoder.encode(texts), sum(counts), runtime.id

    @cached_property
    def _count_tokens(self) -> Any:
        return token_counter(self.settings.embedding_model)

    def _work(self, job: Job) -> None:
        """Answer one request in a worker's thread: pieces, log entry, end."""
        self.metrics.waited.observe(job.seconds)
        job.spans.past("queue", job.started)
        began = time.perf_counter()
        response: Response | None = None
        status: Status = "ok"
        failure: Exception | None = None
        try:
            if time.perf_counter() >= job.until:
                raise deadline_error()
            with self.deployment.lease_for(job.user) as (job.arm, runtime):
                job.release = runtime.id
                self._in_flight.note(job.trace, release=job.release, arm=job.arm)
                self._check_length(runtime, job.turns)
                response = Response(
                    runtime, job.turns, job.decoding, stages=job.spans, until=job.until
                )
                with closing(cast("Any", iter(response))) as pieces:
                    self._pump(job, pieces)
        except Exception as error:  # noqa: BLE001 - the client must get an end, whatever it is
            failure = as_api_error(error)
            status = "deadline" if isinstance(error, DeadlineError) else "error"
            job.spans.fail(type(error).__name__)
        if failure is None and job.cancelled.is_set():
            status = "aborted"
        elif failure is None and response is not None and response.is_late:
            status = "deadline"
        worked = time.perf_counter() - began
        failure = self._conclude(job, response, status, failure)
        self._learn(job, response, failure, worked)

    def _conclude(
        self, job: Job, response: Response | None, status: Status, failure: Exception | None
    ) -> Exception | None:
        """The end of every job: its log entry, its numbers, and what its client is told.

        Returns:
            The failure; another one where the log entry could not be written.
        """
        job.ended()
        try:
            started = time.perf_counter()
            self._write(job, response, status)
            self._in_flight.end(job.trace)
            self.metrics.log.observe(time.perf_counter() - started)
        except Exception as error:  # noqa: BLE001 - as above
            failure, status = as_api_error(error), "error"
            job.spans.fail(type(error).__name__)
        self._count(job, response, status)
        self._settle(job, response)
        self._chats.leave(job.seconds, job.client)
        self.metrics.in_flight.dec()
        if failure is not None:
            job.post(failure)
        elif response is not None:
            job.post(Finished(response=response))
        job.spans.end()
        return failure

    def _settle(self, job: Job, response: Response | None) -> None:
        used = response.prompt_tokens + response.completion_tokens if response else 0
        day = job.time.date().isoformat()
        self._tokens.settle(job.caller.key, job.decoding.max_tokens, day=day, tokens=used)

    def _check_length(self, runtime: Runtime, turns: Sequence[Turn]) -> None:
        most = self.limits.prompt_tokens
        texts = [turn.content for turn in turns]
        if sum(len(text.encode()) for text in texts) <= most:
            return  # no token is shorter than a byte
        if (tokens := sum(runtime.engine.count_tokens(text) for text in texts)) > most:
            raise ApiError(
                400,
                f"The messages have {tokens} tokens together; at most {most} are taken. Leave out"
                " the oldest.",
                param="messages",
                code="context_length_exceeded",
            )

    def _learn(
        self, job: Job, response: Response | None, failure: Exception | None, seconds: float
    ) -> None:
        """Tell the canary's judge what a request has shown, and have the shadow answer it too.

        A client that left has not seen the end. A refused question counts as an error of its arm:
        clients ask both arms alike, so what differs is the release.
        """
        if job.cancelled.is_set() or not job.release:
            return
        self.metrics.arms.labels(job.arm, "error" if failure else "ok").inc()
        if job.arm == "champion":
            self._answered.append(time.monotonic())
        now = self.deployment.traffic
        try:
            if now.canary is not None:
                outcome = self._outcome(response, failure, seconds)
                self.canary.observe(now, job.arm, job.release, outcome)
            elif failure is None:
                self.canary.champion_took(seconds)
        except (HeadwaterError, OSError) as error:
            log.error("canary: %s", error)
        if now.shadow is not None and self._shadow_free.acquire(blocking=False):
            self._shadows.submit(self._shadow, job)

    def _outcome(
        self, response: Response | None, failure: Exception | None, seconds: float
    ) -> Outcome:
        """What a request says of the release that answered it.

        Whether an answer leaked something is judged by the champion's guards, for both arms: a
        canary without guards would find nothing wrong with itself.
        """
        leaked = False
        if response is not None and failure is None:
            with self.deployment.lease() as champion:
                leaked = champion.guard.objects_to(response.text, response.hits)
        return Outcome(
            error=failure is not None,
            refused=bool(response and response.refused),
            seconds=seconds,
            ungrounded=None if response is None or failure else ungrounded_of(response),
            leaked=leaked,
        )

    def _shadow(self, job: Job) -> None:
        """Answer a request once more by the shadow release, for the log alone."""
        try:
            with self.deployment.lease_for(None, "shadow") as (arm, runtime):
                if arm != "shadow":
                    return  # it has been ended meanwhile
                with self._tracing.start(twin=job.spans) as spans:
                    copy = Twin(job, spans, runtime.id)
                    response = Response(runtime, job.turns, job.decoding, stages=spans)
                    for _ in response:
                        pass
                    self._write(copy, response, "ok")
            self.metrics.arms.labels("shadow", "ok").inc()
        except Exception as error:  # noqa: BLE001 - nobody waits for it; it is counted and logged
            self.metrics.arms.labels("shadow", "error").inc()
            log.warning("shadow: %s", error)
        finally:
            self._shadow_free.release()

    def _write(self, job: Job | Twin, response: Response | None, status: Status) -> None:
        """Say in its trace what came of a request, and log both by one durable write."""
        spent = self._meter.of(response)
        self.metrics.energy.inc(spent.energy_wh)
        self.metrics.cost.inc(spent.cost)
        job.spans.note(
            {
                "headwater.release": job.release,
                "headwater.arm": job.arm,
                "headwater.status": status,
                "headwater.streamed": job.streamed,
                "headwater.refused": bool(response and response.refused),
                "headwater.energy_wh": spent.energy_wh,
                "headwater.cost": spent.cost,
            }
        )
        with job.spans.span("log"):
            self._log.append(entry_of(job, response, status, spent))

    def _pump(self, job: Job, pieces: Any) -> None:
        if job.cancelled.is_set():
            return
        for number, piece in enumerate(pieces):
            if number == 0:
                self.metrics.first_token.observe(job.seconds)
            if job.cancelled.is_set():
                return
            job.post(piece)

    def _count(self, job: Job, response: Response | None, status: Status) -> None:
        metrics = self.metrics
        metrics.requests.labels("chat", status).inc()
        metrics.seconds.observe(job.seconds)
        if response is not None:
            metrics.retrieve.observe(response.retrieve_ms / 1000)
            metrics.generate.observe(response.generate_ms / 1000)
            metrics.tokens.labels("prompt").inc(response.prompt_tokens)
            metrics.tokens.labels("completion").inc(response.completion_tokens)
            if response.refused:
                metrics.refused.inc()
            metrics.guard_seconds.observe(sum(response.guard_ms.values()) / 1000)
            for decision in response.decisions:
                metrics.guard.labels(decision.rule, decision.action).inc()

    def _load(self, release: str, before: Runtime | None) -> Runtime:
        """Load a release, unless it is a canary that endpoints die with."""
        canary = traffic.read(self.settings).canary
        if release == canary and died_too_often(self.settings, self._deaths, release):
            raise HeadwaterError("The endpoint died with it before.", mend="Build another release.")
        return self._load_release(self.settings, release, before)

    def _canary_ended(self) -> None:
        self.deployment.refresh()
        self._deaths.forget()

    def _load_failed(self, arm: Arm, release: str, error: HeadwaterError) -> None:
        self.metrics.swaps.labels("failed").inc()
        if arm == "canary":
            self.canary.cannot_load(release, error)
        elif arm == "shadow":
            log.error("shadow: release %s cannot be loaded: %s", short(release), error)

    def _swapped(self, release: str) -> None:
        self.metrics.swaps.labels("ok").inc()
        self.metrics.set_release(release)
        self._tell(release)
