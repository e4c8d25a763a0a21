"""Whether production is still asked what it was asked when the adapter was new.

Compares two windows of requests panel by panel: Evidently tests lengths, scores, citations and
refusals; a classifier tries to tell the questions of the two windows apart by their embeddings.
Knows windows and statistics, not what is done about drift.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headwater.files import new_folder
from headwater.lake import Lake
from headwater.monitoring.drift_page import page
from headwater.monitoring.windows import Windows, windows
from headwater.records import digest_of
from headwater.settings import Settings, quiet_libraries

#: Part of the digest of a report: change it when the same windows give another judgement.
DRIFT_VERSION = 1
#: The panel that alone makes a drift: other questions, however they are answered.
TOPICS = "question_topics"
_NUMBERS = ("question_characters", "answer_characters", "top_score", "documents_cited")
_FOLDS = 5

Vectors = npt.NDArray[np.float32]
Encode = Callable[[Sequence[str]], Vectors]


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftPolicy:
    """How large the windows are, and what counts as drift."""

    reference_requests: int = 100
    current_requests: int = 200  # the latest, at most
    minimum_requests: int = 50  # fewer current ones are not judged
    p_value: float = 0.001  # six panels every half hour: 0.05 would cry wolf daily
    auc: float = 0.65  # at least; small windows need more, see `_auc_threshold`
    panels: int = 2  # so many drifted panels are a drift, or the topics alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One comparison. For a p-value a score below the threshold is drift, for an AUC one above.

    `reference` and `current` are means of what is compared (a share for refusals).
    """

    method: str
    score: float
    threshold: float
    drifted: bool
    reference: float | None
    current: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReport:
    """The judgement over two windows.

    Attributes:
        status: `no_reference` (the reference window is still filling), `not_enough` (too few
            requests after it), `ok` or `drift`.
        share: drifted panels among all, 0 to 1.
        reference: digest of the reference window; at most one retraining should follow it.
        examples: current questions that are least like the reference, with their traces.
        html_path: the page, None where nothing was compared.
    """

    status: str
    panels: Mapping[str, Panel]
    share: float
    reference: str
    reference_requests: int
    current_requests: int
    examples: Sequence[Mapping[str, Any]]
    html_path: Path | None
    digest: str

    def rows(self) -> list[dict[str, Any]]:
        """One row a panel, the drifted ones first."""
        rows = [{"panel": name, **asdict(panel)} for name, panel in self.panels.items()]
        return sorted(rows, key=lambda row: (not row["drifted"], row["panel"]))


def drift_report(
    lake: Lake, settings: Settings, *, encode: Encode, policy: DriftPolicy | None = None
) -> DriftReport:
    """Compare the latest requests with the reference window; the same windows give the same report.

    Args:
        encode: questions to unit vectors, (n, d); called only where there is something to compare.
    """
    policy = policy or DriftPolicy()
    found = windows(
        lake,
        settings,
        reference_size=policy.reference_requests,
        current_size=policy.current_requests,
    )
    if found.reference is None:
        return _unjudged("no_reference", found, policy)
    if len(found.current) < policy.minimum_requests:
        return _unjudged("not_enough", found, policy)
    traces = [row["trace"] for row in found.current]
    digest = digest_of(DRIFT_VERSION, asdict(policy), found.reference_digest, traces)
    folder = settings.reports / "drift" / digest
    if not folder.exists():
        with new_folder(folder) as work:
            _compare(found, found.reference, encode, policy, work)
    return _load(folder, found, digest)


def _compare(
    found: Windows,
    reference: Sequence[Mapping[str, Any]],
    encode: Encode,
    policy: DriftPolicy,
    folder: Path,
) -> None:
    """Judge the windows and write the report's files."""
    panels = _tabular(reference, found.current, policy, folder / "evidently.html")
    topics, examples = _topics(reference, found.current, encode, policy)
    if topics is not None:
        panels[TOPICS] = topics
    drifted = [name for name, panel in panels.items() if panel.drifted]
    status = "drift" if TOPICS in drifted or len(drifted) >= policy.panels else "ok"
    report = {
        "status": status,
        "panels": {name: asdict(panel) for name, panel in panels.items()},
        "share": len(drifted) / len(panels),
        "examples": examples,
    }
    (folder / "report.json").write_text(json.dumps(report, indent=2, ensure_ascii=False), "utf-8")
    (folder / "index.html").write_text(page(report, len(reference), len(found.current)), "utf-8")


def _tabular(
    reference: Sequence[Mapping[str, Any]],
    current: Sequence[Mapping[str, Any]],
    policy: DriftPolicy,
    html: Path,
) -> dict[str, Panel]:
    """Evidently's two-sample tests: Kolmogorov-Smirnov for numbers, z for the share of refusals."""
    quiet_libraries()
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    # Fisher's test would be exact, but Evidently's asks for windows of equal length.
    methods = dict.fromkeys(_NUMBERS, "ks") | {"refused": "z"}
    definition = DataDefinition(numerical_columns=list(_NUMBERS), categorical_columns=["refused"])
    frames = [pd.DataFrame(list(rows))[list(methods)] for rows in (reference, current)]
    old, new = (Dataset.from_pandas(frame, definition) for frame in frames)
    metrics = [
        ValueDrift(column=column, method=method, threshold=policy.p_value)
        for column, method in methods.items()
    ]
    snapshot = Report(metrics, include_tests=True).run(current_data=new, reference_data=old)
    snapshot.save_html(str(html))
    scores = {m["config"]["column"]: float(m["value"]) for m in snapshot.dict()["metrics"]}
    means = [frame.assign(refused=frame["refused"] == "yes").mean() for frame in frames]
    return {
        column: Panel(
            method=f"{method} p-value",
            score=scores[column],
            threshold=policy.p_value,
            drifted=scores[column] < policy.p_value,
            reference=float(means[0][column]),
            current=float(means[1][column]),
        )
        for column, method in methods.items()
    }


def _topics(
    reference: Sequence[Mapping[str, Any]],
    current: Sequence[Mapping[str, Any]],
    encode: Encode,
    policy: DriftPolicy,
) -> tuple[Panel | None, list[dict[str, Any]]]:
    """How well a logistic regression tells the windows' questions apart: out-of-fold ROC AUC.

    The domain classifier of Rabanser et al., "Failing Loudly" (2019), section 3.2. Equal questions
    share a fold, so that a repeated question is not recognised by heart. None where a window has
    too few different questions to be split.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

    rows = [*reference, *current]
    questions = [" ".join(row["question"].lower().split()) for row in rows]
    is_current = np.repeat([0, 1], [len(reference), len(current)])
    distinct = sorted(set(questions))
    for window in (0, 1):
        asked = {q for q, label in zip(questions, is_current, strict=True) if label == window}
        if len(asked) < 2 * _FOLDS:
            return None, []
    position = {question: index for index, question in enumerate(distinct)}
    groups = np.array([position[question] for question in questions])
    vectors = encode(distinct)[groups]
    chance = cross_val_predict(
        LogisticRegression(max_iter=1000, class_weight="balanced"),
        vectors,
        is_current,
        groups=groups,
        cv=StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=0),
        method="predict_proba",
    )[:, 1]
    auc = round(float(roc_auc_score(is_current, chance)), 4)
    threshold = _auc_threshold(len(reference), len(current), policy.auc)
    panel = Panel(
        method="domain classifier AUC",
        score=auc,
        threshold=threshold,
        drifted=auc > threshold,
        reference=None,
        current=None,
    )
    order = sorted(range(len(reference), len(rows)), key=lambda i: (-chance[i], i))
    unlike: dict[str, int] = {}
    for i in order:
        unlike.setdefault(questions[i], i)
    examples = [
        {
            "trace": rows[i]["trace"],
            "question": rows[i]["question"][:200],
            "chance_current": round(float(chance[i]), 3),
        }
        for i in list(unlike.values())[:5]
    ]
    return panel, examples


def _auc_threshold(reference: int, current: int, at_least: float) -> float:
    """Four standard deviations above chance, if that is more.

    The variance of the AUC without drift is (m + n + 1) / 12mn (Mann and Whitney, 1947).
    """
    deviation = np.sqrt((reference + current + 1) / (12 * reference * current))
    return round(max(at_least, 0.5 + 4 * float(deviation)), 4)


def _unjudged(status: str, found: Windows, policy: DriftPolicy) -> DriftReport:
    return DriftReport(
        status=status,
        panels={},
        share=0.0,
        reference=found.reference_digest,
        reference_requests=len(found.reference or ()),
        current_requests=len(found.current),
        examples=[],
        html_path=None,
        digest=digest_of(DRIFT_VERSION, asdict(policy), status, found.reference_digest),
    )


def _load(folder: Path, found: Windows, digest: str) -> DriftReport:
    report = json.loads((folder / "report.json").read_text("utf-8"))
    return DriftReport(
        status=report["status"],
        panels={name: Panel(**panel) for name, panel in report["panels"].items()},
        share=report["share"],
        reference=found.reference_digest,
        reference_requests=len(found.reference or ()),
        current_requests=len(found.current),
        examples=report["examples"],
        html_path=folder / "index.html",
        digest=digest,
    )
