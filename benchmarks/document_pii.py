"""What the cleaning finds of planted personal data, and what it wrongly finds in a technical text.

Planted by code (`benchmarks.planted`), parsed and redacted as a build would; found is a value of
which nothing is left in text, title or headings, and exact where nothing else was taken.
False are all finds in Python's language reference: it holds no personal data. `python -m
benchmarks.document_pii --json`; `--names` adds names of people and places, which takes a language
model and a minute or two. `--documents FOLDER` adds what is found in the pages of a folder, such as
Python's HTML documentation, for a person to judge. It fails below a recall of 0.98.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

from benchmarks.planted import BEYOND, NAMES, Planted, planted
from headwater.documents.clean import language_of
from headwater.documents.parse import parse
from headwater.documents.parsed import Parsed, Rejected
from headwater.documents.personal import PATTERNED, PersonalPolicy, find, screen
from headwater.personal_data import Entity
from headwater.settings import quiet_libraries

PER_FORM = 12
#: Planted data that must be found.
LEAST_RECALL = 0.98
_SHOWN = 200


def measure(
    per_form: int = PER_FORM, *, names: bool = False, folder: Path | None = None
) -> dict[str, Any]:
    """Every figure of the report.

    Args:
        per_form: documents for each way of writing.
        names: also those of people and places.
        folder: of HTML pages that are looked at besides.
    """
    quiet_libraries()
    patterns = PersonalPolicy(redact=True)
    found = {
        **_planted(planted(per_form), patterns),
        "beyond": {
            f"{kind}, {form}": f"{hits} of {count}"
            for (kind, form), (hits, count) in _by_form(planted(per_form, BEYOND), patterns).items()
        },
        "reference": _finds(_reference(), PATTERNED),
    }
    if folder is not None:
        found["documents"] = _finds(_pages(folder), PATTERNED)
    if names:
        named: tuple[Entity, ...] = ("PERSON", "LOCATION")
        people = PersonalPolicy(redact=True, kinds=named)
        found["names"] = {
            **_planted(planted(5 * per_form, NAMES), people),
            "reference": _finds(_reference(), named),
        }
    return found


def _planted(documents: Iterable[Planted], policy: PersonalPolicy) -> dict[str, Any]:
    totals: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    exact: Counter[str] = Counter()
    missed, seconds = list[dict[str, str]](), 0.0
    for document in documents:
        parsed, each = _parsed(document)
        began = time.perf_counter()
        done, _ = screen(parsed, policy, "en")
        seconds += time.perf_counter() - began
        totals[each.kind] += 1
        if _is_gone(each, done):
            hits[each.kind] += 1
        else:
            missed.append({"kind": each.kind, "form": each.form, "value": each.value})
        exact[each.kind] += done.text == parsed.text.replace(each.value, f"<{each.kind}>")
    return {
        "planted": totals.total(),
        "recall": round(hits.total() / totals.total(), 4),
        "exact": round(exact.total() / totals.total(), 4),
        "by_kind": {
            kind: {
                "planted": count,
                "recall": round(hits[kind] / count, 4),
                "exact": round(exact[kind] / count, 4),
            }
            for kind, count in totals.items()
        },
        "missed": missed,
        "ms_per_document": round(1000 * seconds / totals.total(), 2),
    }


def _by_form(
    documents: Iterable[Planted], policy: PersonalPolicy
) -> dict[tuple[str, str], tuple[int, int]]:
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for document in documents:
        parsed, each = _parsed(document)
        hits, count = found.get((each.kind, each.form), (0, 0))
        gone = _is_gone(each, screen(parsed, policy, "en")[0])
        found[each.kind, each.form] = (hits + gone, count + 1)
    return found


def _parsed(document: Planted) -> tuple[Parsed, Planted]:
    """A document as it is parsed, and what was planted as it stands there: prose has plain spaces."""
    parsed = parse(document.text.encode(), "text/markdown", "planted:///notes.md")
    written = (document.value, " ".join(document.value.split()))
    value = next((each for each in written if each in parsed.text), None)
    assert value is not None, f"{document.value!r} was not planted: {document.text}"
    return parsed, replace(document, value=value)


def _is_gone(document: Planted, done: Parsed) -> bool:
    labels = (done.title, *(heading.text for heading in done.headings))
    return not any(document.value in text for text in (done.text, *labels))


def _reference() -> Iterator[tuple[str, str]]:
    """The topics of the language reference and their texts, in which all finds are wrong."""
    for topic in sorted(topics):
        yield topic, parse(topics[topic].encode(), "text/plain", f"pydoc://topics/{topic}").text


def _pages(folder: Path) -> Iterator[tuple[str, str]]:
    """The pages below a folder and their texts; what cannot be parsed is passed by."""
    for path in sorted(folder.rglob("*.html")):
        try:
            text = parse(path.read_bytes(), "text/html", path.as_uri()).text
        except Rejected:
            continue
        yield path.relative_to(folder).as_posix(), text


def _finds(texts: Iterable[tuple[str, str]], kinds: Sequence[Entity]) -> dict[str, Any]:
    """What is found in some texts, each with its name."""
    count = words = 0
    seconds, finds, examples = 0.0, Counter[str](), list[str]()
    for name, text in texts:
        count += 1
        words += len(text.split())
        began = time.perf_counter()
        found = find(text, kinds, language_of(text))
        seconds += time.perf_counter() - began
        finds.update(each.kind for each in found)
        examples += [f"{name}: {text[each.start : each.end]}" for each in found]
    return {
        "documents": count,
        "words": words,
        "finds": dict(finds),
        "per_1000_words": round(1000 * finds.total() / words, 4),
        "examples": examples[:_SHOWN],
        "seconds": round(seconds, 2),
    }


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.document_pii", description=__doc__)
    parser.add_argument("--names", action="store_true")
    parser.add_argument("--documents", type=Path, help="a folder of HTML pages")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    chosen = parser.parse_args()
    found = measure(names=chosen.names, folder=chosen.documents)
    print(json.dumps(found) if chosen.json else json.dumps(found, indent=2, ensure_ascii=False))
    sys.exit(0 if found["recall"] >= LEAST_RECALL else 1)


if __name__ == "__main__":
    main()
