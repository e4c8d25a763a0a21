"""A source's own asset says who is asked about it."""

import dagster as dg
import pytest

from headwater.documents.sources import FolderSource


@pytest.mark.parametrize(
    ("owner", "shown", "tag"),
    [
        (None, "team:data", "data"),
        ("docs-team", "docs-team", "docs-team"),
        ("team:docs", "team:docs", "docs"),
        ("ann@example.org", "ann@example.org", "data"),  # no value that a tag may have
    ],
)
def test_the_owner_of_a_source_is_on_its_asset(tmp_path, owner, shown, tag):
    from assets.sources import _observed

    asset = _observed(FolderSource(name="handbook", path=tmp_path, owner=owner))
    assert asset.metadata["owner"] == dg.TextMetadataValue(shown)
    assert asset.tags["owner"] == tag
