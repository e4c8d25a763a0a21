"""The champion as a candidate meets it: the release in production with the reports that judged it.

Knows where both are kept; what is compared, and how, is `headwater.evaluation.relative`'s.
"""

from collections.abc import Mapping
from dataclasses import replace

from headwater.errors import HeadwaterError
from headwater.evaluation import relative, store
from headwater.evaluation.gates import load_policy
from headwater.evaluation.relative import Champion
from headwater.files import read_json
from headwater.records import short
from headwater.release import manifest, pointer
from headwater.release.manifest import Release
from headwater.settings import Settings


def find_champion(settings: Settings) -> Champion | None:
    """The release in production with its rows; None before the first release.

    Raises:
        IntegrityError: the manifest or a kept report is not what its name says.
    """
    current = pointer.current(settings)
    if current is None:
        return None
    release = manifest.load(settings, current)
    named = reports_of(release)
    return Champion(
        id=release.id,
        base=release.base_model.digest,
        retrieval=store.kept_retrieval(settings, named.get(store.RETRIEVAL, "")),
        generation=store.kept_generation(settings, named.get(store.GENERATION, "")),
        why=f"release {short(release.id)} has no kept report that this version can compare with",
    )


def reports_of(release: Release) -> Mapping[str, str]:
    """Digests of the reports that judged a release, by name; none in one of before they were kept."""
    named: Mapping[str, str] = release.evaluation.get("reports", {})
    return named


def compare_again(settings: Settings, candidate: Release) -> Release:
    """The candidate compared with what is champion now, if that has changed since it was made.

    Its other gates, and its reports, stay what they are. A candidate that is itself the champion
    by now has nobody to be compared with.

    Raises:
        HeadwaterError: its reports are gone.
        IntegrityError: a kept report is not what its name says.
    """
    current = pointer.current(settings)
    if current in (candidate.id, candidate.evaluation.get("champion")):
        return candidate
    named = reports_of(candidate)
    retrieval = store.kept_retrieval(settings, named.get(store.RETRIEVAL, ""))
    generation = store.kept_generation(settings, named.get(store.GENERATION, ""))
    if retrieval is None or generation is None:
        raise HeadwaterError(
            f"Release {current} went into production after candidate {short(candidate.id)} was "
            "judged, and the candidate's reports, to compare it again, are gone.",
            mend="Materialize retrieval_report, generation_report and what is downstream of them.",
        )
    champion, policy = find_champion(settings), load_policy().relative
    found = [
        *relative.retrieval_against(retrieval, champion, policy),
        *relative.generation_against(
            generation, champion, policy, base=candidate.base_model.digest
        ),
    ]
    names = {result.name for result in found}
    kept = [gate for gate in candidate.gates if gate["name"] not in names]
    return replace(
        candidate,
        gates=(*kept, *(result.as_mapping() for result in found)),
        evaluation={**candidate.evaluation, "champion": current},
    )


def forget_reports(settings: Settings) -> int:
    """Remove kept reports that neither a release nor the candidate names; how many."""
    releases = [manifest.load(settings, each) for each in manifest.list_ids(settings)]
    candidate = read_json(settings.releases / "candidate.json")
    if candidate is not None:
        releases.append(Release.from_json(candidate))
    return store.prune(settings, {each for one in releases for each in reports_of(one).values()})
