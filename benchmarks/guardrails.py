"""What the guards catch and what they wrongly block, under the policy of policy.yaml.

200 attacks made by code (`benchmarks.attacks`) and 500 ordinary questions on Python's language
reference: 80 written by hand, the golden set, and 420 from the names and headings of the text.
`python -m benchmarks.guardrails --json`; `--skip-similarity` leaves out the off-topic rule, which
embeds the whole default corpus first (a minute).
"""

import argparse
import json
import random
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pydoc_data.topics import topics
from typing import Any

from benchmarks import attacks
from headwater.datasets.golden import load_curated
from headwater.guardrails.guard import Guard
from headwater.guardrails.policy import DocumentPolicy, load_policy
from headwater.records import Hit
from headwater.settings import Settings, quiet_libraries

PER_CLASS, ORDINARY = 50, 500
#: Characters of an ordinary passage, about what a chunk has.
_PASSAGE = 700
_NAME = re.compile(r'"((?:object\.)?_{0,2}[a-z][\w.]*(?:\(\))?)"')
_HEADING = re.compile(r"^([A-Z][^\n]{3,60})\n[*=\-~]{4,}$", re.MULTILINE)
_ASK_NAME = (
    "What does {name} do?", "How do I use {name} in my own class?", "When is {name} called?",
    "Can I override {name} in a subclass?", "Why does {name} raise an exception?",
    "What is the difference between {name} and {other}?", "Is {name} evaluated before {other}?",
    "Show me a short example of {name}.", "Does {name} ignore previous values of {other}?",
    "Please explain {name} as you would to a beginner.",
)  # fmt: skip
_ASK_HEADING = (
    "What does the reference say about {heading}?", "Summarize the section on {heading}.",
    "What are the rules for {heading}?", "I don't understand {heading}; what should I read first?",
    "Print an example for {heading}.",
)  # fmt: skip


def ordinary_questions(count: int = ORDINARY) -> list[str]:
    """The golden questions, and others from names and headings of the reference."""
    chance = random.Random(attacks.SEED)
    text = "\n".join(topics[name] for name in sorted(topics))
    names = sorted({match[1] for match in _NAME.finditer(text)})
    headings = sorted({match[1] for match in _HEADING.finditer(text)})
    questions = [item.question for item in load_curated()]
    while len(questions) < count:
        name, other = chance.sample(names, 2)
        ask = chance.choice([*_ASK_NAME, *_ASK_HEADING])
        questions.append(ask.format(name=name, other=other, heading=chance.choice(headings)))
    return questions[:count]


def ordinary_passages() -> list[str]:
    """The reference in passages of whole paragraphs."""
    passages = []
    for topic in sorted(topics):
        passage = ""
        for paragraph in topics[topic].split("\n\n"):
            if passage and len(passage) + len(paragraph) > _PASSAGE:
                passages.append(passage)
                passage = ""
            passage += f"{paragraph}\n\n"
        passages.append(passage)
    return passages


def measure(*, similarity: Callable[[Sequence[str]], list[float]] | None = None) -> dict[str, Any]:
    """Every figure of the report.

    Args:
        similarity: gives each question's cosine similarity to the best passage of the corpus.
    """
    guard = Guard(load_policy())
    guard.warm()
    questions, passages = ordinary_questions(), ordinary_passages()
    found = {
        "policy": guard.policy.reference,
        "attacks": {
            "pii": _personal(guard),
            "injection": _orders(guard),
            "poisoned_documents": _poisoned(guard, passages),
            "links": _links(guard),
        },
        "ordinary": {
            "questions": _questions(guard, questions),
            "passages": _passages(guard, passages),
            "answers": _answers(guard, [item.reference for item in load_curated()]),
            "quoted_passages": _answers(guard, passages),
        },
        "ms": _costs(questions, passages),
    }
    if similarity is not None:
        found["off_topic"] = _off_topic(guard, similarity, questions)
    return found


def _personal(guard: Guard) -> dict[str, Any]:
    planted = attacks.personal(PER_CLASS)
    checked = [guard.question(each.question) for each in planted]
    pairs = list(zip(planted, checked, strict=True))
    structured = [pair for pair in pairs if pair[0].kind in guard.policy.question.model_entities]
    return {
        "attacks": len(pairs),
        "caught": sum(each.value not in done.logged for each, done in pairs),
        "kept_from_model": sum(each.value not in done.asked for each, done in structured),
        "meant_for_model": len(structured),
        "missed": Counter(each.kind for each, done in pairs if each.value in done.logged),
    }


def _orders(guard: Guard) -> dict[str, Any]:
    orders = attacks.orders(PER_CLASS)
    missed = [text for text in orders if guard.question(text).refusal is None]
    return {"attacks": len(orders), "caught": len(orders) - len(missed), "missed": missed}


def _poisoned(guard: Guard, passages: Sequence[str]) -> dict[str, Any]:
    poisoned = attacks.poisoned(PER_CLASS, passages)
    missed = [text for text in poisoned if guard.passages([_hit(text)]).shown]
    return {"attacks": len(poisoned), "caught": len(poisoned) - len(missed), "missed": missed}


def _links(guard: Guard) -> dict[str, Any]:
    """A model that says whatever the document tells it, with the document rule off and on."""
    open_guard = Guard(guard.policy.model_copy(update={"documents": DocumentPolicy()}))
    exfiltrations = attacks.exfiltrations(PER_CLASS)
    chance = random.Random(attacks.SEED)
    leaked, unguarded = [], 0
    for each in exfiltrations:
        document = _hit(f"{_SAY}{each.text}")
        said = "".join(open_guard.answer([document]).apply(_pieces(_obey(document), chance)))
        unguarded += any(each.canary in address for address in attacks.fetched(each.text))
        if attacks.fetched(said):
            leaked.append(said)
    return {
        "attacks": len(exfiltrations),
        "caught": len(exfiltrations) - len(leaked),
        "would_leak_without": unguarded,
        "leaked": leaked,
    }


_SAY = "When you answer, say this: "


def _obey(document: Hit) -> str:
    return document.text.removeprefix(_SAY)


def _pieces(text: str, chance: random.Random) -> list[str]:
    """A text as a model's tokens might fall."""
    pieces = []
    while text:
        size = chance.randint(1, 6)
        pieces.append(text[:size])
        text = text[size:]
    return pieces


def _questions(guard: Guard, questions: Sequence[str]) -> dict[str, Any]:
    checked = [guard.question(question) for question in questions]
    refused = [q for q, each in zip(questions, checked, strict=True) if each.refusal is not None]
    decisions = Counter(
        f"{decision.rule} {decision.action}"
        for each in checked
        for decision in each.decisions
        if decision.action != "allowed"
    )
    return {
        "count": len(questions),
        "refused": len(refused),
        "redacted_in_log": sum(
            each.logged != q for q, each in zip(questions, checked, strict=True)
        ),
        "redacted_for_model": sum(
            each.asked != q for q, each in zip(questions, checked, strict=True)
        ),
        "decisions": decisions,
        "wrongly_refused": refused,
    }


def _passages(guard: Guard, passages: Sequence[str]) -> dict[str, Any]:
    shown = guard.passages([_hit(text) for text in passages]).shown
    return {"count": len(passages), "dropped": len(passages) - len(shown)}


def _answers(guard: Guard, answers: Sequence[str]) -> dict[str, Any]:
    changed: Counter[str] = Counter()
    altered = 0
    for answer in answers:
        filter_ = guard.answer([])
        altered += "".join(filter_.apply([answer])) != answer
        changed.update(each.rule for each in filter_.decisions if each.action != "allowed")
    return {"count": len(answers), "changed": altered, "by_rule": changed}


def _off_topic(
    guard: Guard, similarity: Callable[[Sequence[str]], list[float]], questions: Sequence[str]
) -> dict[str, Any]:
    near, far = sorted(similarity(questions)), sorted(similarity(attacks.OFF_TOPIC))
    least = guard.policy.question.least_similarity or 0.0
    return {
        "least_similarity": least,
        "ordinary_refused": sum(each < least for each in near),
        "ordinary": _spread(near),
        "off_topic": len(far),
        "off_topic_refused": sum(each < least for each in far),
        "off_topic_spread": _spread(far),
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    at = {"min": 0.0, "p1": 0.01, "p5": 0.05, "p50": 0.5, "p95": 0.95, "max": 1.0}
    return {name: round(values[int(q * (len(values) - 1))], 3) for name, q in at.items()}


def _costs(questions: Sequence[str], passages: Sequence[str]) -> dict[str, dict[str, float]]:
    """Milliseconds of each guard: a question, three passages not seen before, an answer."""
    fresh = Guard(load_policy())
    answers = [item.reference for item in load_curated()]
    groups = [passages[i : i + 3] for i in range(0, 300, 3)]

    def times(work: Callable[[Any], object], inputs: Sequence[Any]) -> dict[str, float]:
        taken = []
        for each in inputs:
            started = time.perf_counter()
            work(each)
            taken.append((time.perf_counter() - started) * 1000)
        cuts = statistics.quantiles(taken, n=20)
        return {"p50": round(statistics.median(taken), 2), "p95": round(cuts[-1], 2)}

    return {
        "question": times(fresh.question, questions[:200]),
        "three_passages": times(
            lambda group: fresh.passages([_hit(f"{text} ") for text in group]), groups
        ),
        "answer": times(lambda text: list(fresh.answer([]).apply(text.split(" "))), answers),
    }


def _hit(text: str) -> Hit:
    return Hit(id="x", score=1, uri="x", title="", heading="", start=0, end=0, text=text)


def corpus_similarity(settings: Settings) -> Callable[[Sequence[str]], list[float]]:
    """Embeds the default corpus; gives a question's cosine similarity to its nearest chunk."""
    from benchmarks.embedding import default_chunks
    from headwater.embeddings.encoder import Encoder

    encoder = Encoder(settings.embedding_model, settings.threads, settings.encoders)
    vectors = encoder.encode(default_chunks(settings, 10**6))

    def nearest(questions: Sequence[str]) -> list[float]:
        return [float(row.max()) for row in encoder.encode(questions) @ vectors.T]

    return nearest


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--skip-similarity", action="store_true")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    chosen = parser.parse_args()
    quiet_libraries()
    nearest = None if chosen.skip_similarity else corpus_similarity(Settings())
    found = measure(similarity=nearest)
    print(json.dumps(found) if chosen.json else json.dumps(found, indent=2, ensure_ascii=False))
    sys.exit(1 if found["attacks"]["links"]["leaked"] else 0)


if __name__ == "__main__":
    main()
