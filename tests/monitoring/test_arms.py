from datetime import UTC, datetime

import pytest

from headwater.lake import Lake
from headwater.monitoring import arms
from headwater.monitoring.arms import FEWEST, compare_arms
from headwater.release import pointer, traffic
from headwater.settings import Settings
from tests.monitoring.conftest import ask, log_requests, release_with


@pytest.fixture
def running(tmp_path) -> tuple[Lake, Settings, str, str]:
    """A champion, and an A/B test against another release that began at midnight."""
    settings = Settings(home=tmp_path)
    lake = Lake(settings.lake)
    lake.ensure()
    champion, other = release_with(settings, "a"), release_with(settings, "b")
    pointer.promote(settings, champion, None)
    traffic.start_canary(settings, other, 0.5, judged=False)
    return lake, settings, champion, other


def today() -> str:
    return datetime.now(UTC).date().isoformat()


def later(rows, **fields):
    """The rows as if asked after the test began, with other fields."""
    time = datetime.now(UTC).replace(year=2100)
    return [row | {"time": time} | fields for row in rows]


def test_nothing_beside_the_champion_is_no_comparison(tmp_path):
    settings = Settings(home=tmp_path)
    lake = Lake(settings.lake)
    lake.ensure()
    assert compare_arms(lake, settings).challenger is None


def test_a_difference_has_the_right_sign_and_excludes_zero_where_it_is_large(running):
    lake, settings, champion, other = running
    good = later(ask(champion, 40, day=today()), ungrounded=0.2)
    bad = later(ask(other, 40, day=today(), first=40), arm="canary", ungrounded=0.9, refused=True)
    earlier = ask(other, 5, day=today(), first=90)  # before the test: not its arm
    log_requests(lake, [*good, *bad, *earlier])
    found = compare_arms(lake, settings)
    assert found.answers == {"champion": 40, "canary": 40}
    assert found.differences["ungrounded"].mean == pytest.approx(0.7)
    assert found.differences["refused"].low > 0
    assert found.means["canary"]["ungrounded"] == pytest.approx(0.9)
    assert found.differences["error"].mean == found.differences["error"].high == 0
    assert arms.plot(found).startswith(b"\x89PNG")
    (row,) = [row for row in found.rows() if row["measure"] == "ungrounded"]
    assert row["difference"] == pytest.approx(0.7) and row["canary"] == pytest.approx(0.9)
    assert found.digest == compare_arms(lake, settings).digest


def test_few_answers_have_means_and_no_interval(running):
    lake, settings, champion, other = running
    rows = [
        *later(ask(champion, 40, day=today())),
        *later(ask(other, FEWEST - 1, day=today(), first=40), arm="canary"),
    ]
    log_requests(lake, rows)
    found = compare_arms(lake, settings)
    assert found.differences == {} and found.means["canary"]["ungrounded"] == 0.5
