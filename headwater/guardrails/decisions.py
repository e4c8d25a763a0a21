"""What a rule has decided about one request: small enough to count, log and show.

Holds names and numbers, never the text that a rule acted on.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

Action = Literal["allowed", "redacted", "refused", "dropped", "removed"]
Rule = Literal[
    "length", "pii", "profanity", "injection", "off_topic", "document_injection",
    "answer_links", "answer_pii", "answer_profanity",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The outcome of one rule for one request.

    Attributes:
        count: how many things it acted on; 0 where it allowed all.
        detail: the entity types or families of patterns that it found, for operators.
    """

    rule: Rule
    action: Action
    count: int = 0
    detail: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What the asker may see: not which pattern it was, which would help to evade it."""
        return {"rule": self.rule, "action": self.action, "count": self.count}


def decide(rule: Rule, action: Action, count: int, detail: tuple[str, ...] = ()) -> Decision:
    """The decision of a rule that acts with `action`, or "allowed" where it found nothing."""
    return Decision(rule=rule, action=action if count else "allowed", count=count, detail=detail)


def told(decisions: Iterable[Decision]) -> tuple[str, ...]:
    """Those that acted on anything, as logs hold them: "rule action count"."""
    return tuple(f"{each.rule} {each.action} {each.count}" for each in decisions if each.count)
