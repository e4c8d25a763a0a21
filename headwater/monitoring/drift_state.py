"""What the watch over one adapter remembers: its reference, the pool, and the evidence so far.

Knows files. Every state names what it has consumed: its `chain` is a digest of the reference and
of every window since, so the same requests, consumed in any number of ticks, end in the same state,
and a killed tick is repeated without a trace.
"""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from headwater.files import new_folder, read_json, write_json
from headwater.monitoring.features import Sample
from headwater.monitoring.panels import PANELS, WEIGHTS, Tested, test_window
from headwater.monitoring.policy import DriftPolicy
from headwater.monitoring.sequential import Evidence, combined, factor
from headwater.monitoring.windows import Cursor
from headwater.records import digest_of, short
from headwater.settings import Settings

#: Part of a state's name: change it when the same requests give another judgement.
DRIFT_VERSION = 2
#: Windows whose figures are kept for the picture.
_HISTORY = 200
#: Starts of a drift whose evidence differs by less than this are not told apart; less than what
#: one window can add.
_ALIKE = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowFigures:
    """What one window said: p-values, and the evidence after it, by panel and in all."""

    number: int
    chain: str
    first: str  # ISO 8601, UTC
    last: str
    p_values: dict[str, float | None]
    evidence: dict[str, float]
    combined: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Firing:
    """When evidence first was enough. It stands: what comes later takes nothing back.

    `onset` is the window from which on the panel was most unlike the reference.
    """

    window: int
    time: str
    panel: str
    evidence: float
    chain: str
    onset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """The state of the test. `pool` and `recent` are samples; the rest is small."""

    reference: str
    chain: str
    cursor: Cursor
    evidence: dict[str, Evidence]
    history: tuple[WindowFigures, ...]
    fired: Firing | None
    pool: Sample
    recent: Sample

    @property
    def windows(self) -> int:
        """Windows consumed."""
        return self.history[-1].number if self.history else 0

    @property
    def combined(self) -> float:
        """Evidence of all panels together; 1 at the start."""
        return combined(self.evidence, WEIGHTS)

    @property
    def leading(self) -> str:
        """The panel that has contributed most to the evidence."""
        return max(PANELS, key=lambda name: WEIGHTS[name] * self.evidence[name].value)


def begin(reference: Sample, cursor: Cursor, policy: DriftPolicy) -> Watch:
    """The state before the first window."""
    name = reference.digest
    return Watch(
        reference=name,
        chain=digest_of(DRIFT_VERSION, policy.digest, name),
        cursor=cursor,
        evidence={panel: Evidence() for panel in PANELS},
        history=(),
        fired=None,
        pool=reference,
        recent=reference.take(slice(0, 0)),
    )


def consume(
    watch: Watch, window: Sample, span: tuple[Cursor, Cursor], policy: DriftPolicy
) -> Watch:
    """The state after one more window; the same state and window give the same state.

    Args:
        span: cursors at the window's first and last request.
    """
    chain = digest_of(watch.chain, window.digest)
    tested: Tested = test_window(
        window,
        watch.pool,
        permutations=policy.permutations,
        keep=policy.pool_requests,
        seed=int(chain[:16], 16),
    )
    evidence = {
        name: watch.evidence[name].after(1.0 if p is None else factor(p))
        for name, p in tested.p_values.items()
    }
    figures = WindowFigures(
        number=watch.windows + 1,
        chain=chain,
        first=span[0].time,
        last=span[1].time,
        p_values=dict(tested.p_values),
        evidence={name: each.value for name, each in evidence.items()},
        combined=combined(evidence, WEIGHTS),
    )
    recent = watch.recent.joined(window)
    after = replace(
        watch,
        chain=chain,
        cursor=span[1],
        evidence=evidence,
        history=(*watch.history, figures)[-_HISTORY:],
        pool=tested.pool,
        recent=recent.take(slice(max(0, len(recent) - policy.recent_requests), None)),
    )
    if after.fired is None and after.combined >= 1 / policy.alpha:
        after = replace(after, fired=_firing(after))
    return after


def _firing(watch: Watch) -> Firing:
    last, panel = watch.history[-1], watch.leading
    return Firing(
        window=last.number,
        time=last.last,
        panel=panel,
        evidence=watch.combined,
        chain=watch.chain,
        onset=_onset(watch.history, panel),
    )


def _onset(history: tuple[WindowFigures, ...], panel: str) -> int:
    """The window from which on a panel's factors multiply to most, or nearly so.

    The latest start within `_ALIKE` of the best: quiet windows before a drift may by chance add a
    little.
    """
    products: dict[int, float] = {}
    product = 1.0
    for figures in reversed(history):
        p = figures.p_values[panel]
        product *= 1.0 if p is None else factor(p)
        products[figures.number] = product
    enough = max(products.values()) / _ALIKE
    return max(number for number, product in products.items() if product >= enough)


class Store:
    """The files of one adapter's watch: `reference.npz`, and `state.json` naming its samples."""

    def __init__(self, settings: Settings, adapter: str) -> None:
        self.folder = watch_folder(settings, adapter)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the watch's one lock; the kernel frees it when the process dies."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def reference(self) -> tuple[Sample, Cursor] | None:
        """The stored reference and its last request, None before there is one."""
        folder = self.folder / "reference"
        if not folder.exists():
            return None
        return Sample.load(folder / "sample.npz"), Cursor(**read_json(folder / "last.json"))

    def keep_reference(self, reference: Sample, last: Cursor) -> None:
        """Store it; it never changes again."""
        with new_folder(self.folder / "reference") as work:
            reference.save(work / "sample.npz")
            write_json(work / "last.json", asdict(last))

    def load(self, policy: DriftPolicy) -> Watch | None:
        """The state under this policy; None where there is none, or it was of another one."""
        held: dict[str, Any] | None = read_json(self.folder / "state.json")
        if held is None or held["rules"] != _rules(policy):
            return None
        samples = self.folder / held["samples"]
        return Watch(
            reference=held["reference"],
            chain=held["chain"],
            cursor=Cursor(**held["cursor"]),
            evidence={name: Evidence(**each) for name, each in held["evidence"].items()},
            history=tuple(WindowFigures(**each) for each in held["history"]),
            fired=Firing(**held["fired"]) if held["fired"] else None,
            pool=Sample.load(samples / "pool.npz"),
            recent=Sample.load(samples / "recent.npz"),
        )

    def save(self, watch: Watch, policy: DriftPolicy) -> None:
        """Replace the state: samples beside the old ones first, then the file that names them."""
        samples = self.folder / f"samples-{short(watch.chain)}"
        with new_folder(samples) as work:
            watch.pool.save(work / "pool.npz")
            watch.recent.save(work / "recent.npz")
        write_json(
            self.folder / "state.json",
            {
                "reference": watch.reference,
                "chain": watch.chain,
                "rules": _rules(policy),
                "samples": samples.name,
                "cursor": asdict(watch.cursor),
                "evidence": {name: asdict(each) for name, each in watch.evidence.items()},
                "history": [asdict(each) for each in watch.history],
                "fired": asdict(watch.fired) if watch.fired else None,
            },
        )
        for other in self.folder.glob("samples-*"):
            if other != samples:
                shutil.rmtree(other)


def watch_folder(settings: Settings, adapter: str) -> Path:
    """Where the watch over an adapter lies; remove it to start with another reference."""
    return settings.root / "monitoring" / "drift" / short(digest_of(adapter))


def _rules(policy: DriftPolicy) -> str:
    return digest_of(DRIFT_VERSION, policy.digest)
