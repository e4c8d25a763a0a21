"""Personal data in what is asked and answered: replaced by the name of its kind.

Knows what is done about it; what finds it is `headwater.personal_data`, loaded on first use.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

from headwater.personal_data import NAMED, Entity, analyze, is_name

Redaction = tuple[str, Counter[str]]


def redact(
    text: str, entities: Mapping[Entity, float], keep: Collection[str] = (), context: str = ""
) -> Redaction:
    """The text with each piece of personal data replaced by its type in brackets.

    Args:
        entities: the types to look for, with the least score of each.
        keep: texts in whose wording a find may stay.
        context: what stands before the text; words in it make a number a phone number.

    Returns:
        The new text, and how often each type was replaced.
    """
    if not entities or not _may_hold(text, entities):
        return text, Counter()
    from presidio_anonymizer.entities import OperatorConfig

    found = [
        result
        for result in analyze(text, entities, context)
        if result.score >= entities[result.entity_type]
        and not any(text[result.start : result.end] in each for each in keep)
        and (result.entity_type != "PERSON" or is_name(text, result.start, result.end))
    ]
    if not found:
        return text, Counter()
    operators = {
        kind: OperatorConfig("replace", {"new_value": f"[{kind}]"}) for kind in set(entities)
    }
    done = _anonymizer().anonymize(text, found, operators)
    return done.text, Counter(item.entity_type for item in done.items)


def warm(entities: Collection[Entity]) -> None:
    """Load what finding these types needs, so that the first request does not wait for it."""
    if entities:
        redact("Mail Ada Lovelace at ada@example.org.", dict.fromkeys(entities, 0.5))


def _may_hold(text: str, entities: Mapping[Entity, float]) -> bool:
    """Whether it is worth a look: every pattern needs a digit or "@", a name a capital letter."""
    if not NAMED.isdisjoint(entities) and any(char.isupper() for char in text):
        return True
    return any(char.isdigit() or char == "@" for char in text) or "CRYPTO" in entities


@cache
def _anonymizer() -> Any:
    from presidio_anonymizer import AnonymizerEngine

    return AnonymizerEngine()
