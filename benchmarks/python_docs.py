"""Python's HTML documentation as a source: all pages, or those of the questions and a fixed sample.

Knows where Debian puts it, the golden questions over it, and how a folder names its documents; knows
no stage and no model.
"""

import glob
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from headwater.datasets.golden import read_file
from headwater.documents.kinds.base import base_uri
from headwater.documents.sources import FolderSource, list_items
from headwater.errors import HeadwaterError
from headwater.records import digest_of

#: Questions over the documentation, by the name that its source has in their URIs.
GOLDEN = Path(__file__).with_name("golden") / "html_docs.yaml"
NAME = "python-docs"
#: Where Debian's package python3.11-doc puts it, and the variable that names another folder. Not
#: `HEADWATER_...`: these are settings of an installation, which tests and benchmarks do away with.
DEBIAN = Path("/usr/share/doc/python3.11/html")
VARIABLE = "PYTHON_HTML_DOCS"
LICENCE = "PSF-2.0"
#: Decides which pages that no question names are in a sample.
SEED = 20261121


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """A folder of pages to search, and how many there are of which kind.

    Args:
        named: pages that questions name.
        others: pages beside them, in which no answer is.
        left_out: pages that a sample leaves out.
    """

    source: FolderSource
    named: int
    others: int
    left_out: int


def documentation(given: Path | None = None) -> Path:
    """The folder of the documentation.

    Args:
        given: instead of what the environment names, or else of Debian's place.

    Raises:
        HeadwaterError: there is no such folder.
    """
    path = given or Path(os.environ.get(VARIABLE) or DEBIAN)
    if not path.is_dir():
        raise HeadwaterError(
            f"There is no documentation at {path}.",
            mend="Run `apt-get install python3.11-doc` (an image that leaves out documentation does so"
            f" here, too; then unpack the package by `dpkg -x`), or name its folder by {VARIABLE}.",
        )
    return path


def pages(folder: Path, questions: Path, others: int | None = None) -> Pages:
    """The pages of a folder that questions name, and so many others.

    Only files of the suffixes that the named ones have count as pages: beside its HTML the
    documentation has the same texts as they were written, which would be found in its place.

    Args:
        questions: a file of golden questions over that folder.
        others: how many pages that no question names; None is all. Which ones depends on their
            names and `SEED` alone, and a larger sample holds the smaller one.

    Raises:
        HeadwaterError: the questions name no folder, or documents that it does not hold.
    """
    asked = {uri for item in read_file(questions).items for uri in item.uris}
    name = _name(asked, questions)
    licence = LICENCE if name == NAME else "unknown"
    whole = FolderSource(name=name, path=folder, licence=licence)
    listed = [item.uri for item in list_items(whole)]
    if missing := sorted(asked.difference(listed)):
        raise HeadwaterError(
            f"{folder} lacks {len(missing)} documents that {questions} names, such as {missing[0]}.",
            mend="Give the folder that the questions are about.",
        )
    suffixes = {PurePosixPath(uri).suffix for uri in asked}
    rest = [uri for uri in listed if uri not in asked and PurePosixPath(uri).suffix in suffixes]
    rest.sort(key=lambda uri: digest_of(SEED, uri))
    chosen = rest if others is None else rest[:others]
    if len(chosen) == len(rest):
        include = [f"*{glob.escape(suffix)}" for suffix in sorted(suffixes)]
    else:
        start = len(base_uri(name))
        include = [glob.escape(unquote(uri[start:])) for uri in sorted([*asked, *chosen])]
    return Pages(
        source=whole.model_copy(update={"include": include}),
        named=len(asked),
        others=len(chosen),
        left_out=len(rest) - len(chosen),
    )


def _name(uris: Collection[str], questions: Path) -> str:
    """What the one folder source is called that all these URIs are of."""
    names = {uri.partition(":///")[0] for uri in uris if ":///" in uri}
    if len(names) != 1 or not all(":///" in uri for uri in uris):
        raise HeadwaterError(
            f"{questions} does not name documents of one folder.",
            mend="Give a file whose URIs all begin with one NAME:///, or list the sources by"
            " --sources.",
        )
    return names.pop()
