from collections.abc import Callable

import pytest

from headwater.errors import HeadwaterError
from headwater.release import catalog, manifest, pointer
from headwater.release.manifest import Release
from headwater.settings import Settings

Make = Callable[..., Release]


@pytest.fixture
def three(settings: Settings, make_release: Make, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Releases a, b, c with all their parts there; only a is current."""

    class Store:
        def versions(self) -> list[str]:
            return ["a", "b", "c"]

    monkeypatch.setattr(catalog, "open_store", lambda _: Store())
    made = [manifest.save(settings, make_release(index=name)).id for name in ("a", "b", "c")]
    pointer.promote(settings, made[0], None)
    return made


def test_statuses(settings: Settings, make_release: Make, three: list[str]) -> None:
    blocked = manifest.save(
        settings, make_release(index="gone", gates=({"name": "recall_at_5", "passed": False},))
    )
    catalog.promote(settings, three[1])
    rows = {row["id"]: row for row in catalog.list_releases(settings)}
    assert {id: row["status"] for id, row in rows.items()} == {
        three[0]: "earlier",
        three[1]: "current",
        three[2]: "ready",
        blocked.id: "blocked",
    }
    assert rows[three[2]]["runnable"] and not rows[blocked.id]["runnable"]
    assert rows[three[0]]["index"] == "a"


def test_a_promotion_is_compare_and_set_and_says_why(settings: Settings, three: list[str]) -> None:
    with pytest.raises(pointer.PromotionConflict):
        catalog.promote(settings, three[2], expected=three[1])
    assert catalog.promote(settings, three[1][:10], reason="a test") == (three[1], True)
    assert catalog.promote(settings, three[1]) == (three[1], False)
    (move,) = catalog.show(settings, three[1])["moves"]
    assert move["reason"] == "a test" and move["actor"]


def test_rollbacks_go_back_one_by_one(settings: Settings, three: list[str]) -> None:
    catalog.promote(settings, three[1])
    catalog.promote(settings, three[2])
    assert catalog.rollback(settings) == (three[1], three[2])
    assert catalog.rollback(settings) == (three[0], three[1])
    with pytest.raises(HeadwaterError, match="no earlier release"):
        catalog.rollback(settings)
    # A release that is promoted again has the one it replaced before it.
    catalog.promote(settings, three[2])
    assert catalog.rollback(settings) == (three[0], three[2])


def test_a_release_whose_parts_are_gone_is_not_promoted(
    settings: Settings, make_release: Make, three: list[str]
) -> None:
    gone = manifest.save(settings, make_release(index="dropped"))
    with pytest.raises(HeadwaterError, match="index dropped"):
        catalog.promote(settings, gone.id)
    manifest_of_b = manifest.load(settings, three[1])
    (settings.root / manifest_of_b.base_model.file).write_bytes(b"other bytes")
    with pytest.raises(HeadwaterError, match="not what its release names"):
        catalog.promote(settings, three[1])
    assert pointer.current(settings) == three[0]


def test_a_difference_names_the_parts(
    settings: Settings, make_release: Make, three: list[str]
) -> None:
    (index,) = catalog.diff(settings, three[0], three[1])
    assert (index.part, index.before, index.after) == ("index", "a", "b")
    assert catalog.diff(settings, three[0], three[0]) == []
    bare = manifest.save(settings, make_release(index="a", guardrails="strict/1"))
    assert [each.part for each in catalog.diff(settings, three[0], bare.id)] == ["guardrails"]
    with pytest.raises(HeadwaterError, match="guardrails"):
        catalog.promote(settings, bare.id)
