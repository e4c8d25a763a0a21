import json

import pytest

from headwater.documents.formats import notebook
from headwater.documents.parse import parse
from headwater.documents.parsed import Block, Rejected


def test_text_and_code_without_outputs():
    cells = [
        {"cell_type": "markdown", "source": ["# Harbour\n", "\n", "It *opens* at six."]},
        {"cell_type": "code", "source": "print(6)", "outputs": [{"text": "canary"}]},
        {"cell_type": "raw", "source": "x"},
        "no cell",
    ]
    assert notebook.blocks(json.dumps({"cells": cells})) == (
        "",
        [Block("Harbour", 1), Block("It opens at six."), Block("print(6)")],
    )


def test_half_a_pair_is_no_character():
    content = b'{"cells": [{"cell_type": "code", "source": "a\\ud800b"}]}'
    assert parse(content, "application/x-ipynb+json", "docs:///a.ipynb").text == "ab"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "damaged_notebook"),
        ("[]", "damaged_notebook"),
        ('{"worksheets": []}', "damaged_notebook"),
        ("[" * 100_000, "too_deep"),
    ],
)
def test_what_is_no_notebook(text, reason):
    with pytest.raises(Rejected) as error:
        notebook.blocks(text)
    assert error.value.reason == reason
