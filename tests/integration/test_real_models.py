"""The chain once with the models that the packages carry; the training is cut to two steps."""

import pytest

from tests.integration.conftest import Installation

RECIPE = """
rank: 4
layers: 1
max_steps: 2
rows_per_step: 2
learning_rate: 1.0e-3
dataset: {max_rows: 12, written_questions: 2}
evaluation: {generation_items: 2, max_new_tokens: 12}
"""

FERRY = """# Ferry timetable

The ferry between the harbour and the island leaves every morning at seven from pier four.

## Tickets

A return ticket for the ferry costs eighteen crowns and is sold only at the harbour office.
"""


@pytest.mark.models
@pytest.mark.timeout(900)
def test_real_models_answer_with_the_right_citation(tmp_path):
    (tmp_path / "short.yaml").write_text(RECIPE)
    installation = Installation(tmp_path, recipe=str(tmp_path / "short.yaml"))
    # Two documents give four provisional questions: too few for the gates to judge two steps by.
    installation.write_guides("Coffee")
    (installation.documents / "ferry.md").write_text(FERRY)
    installation.run("sources", "add", str(installation.documents), "--name", "drinks")
    built = installation.run("build")
    assert built["deployed"] and built["training"]["steps"] == 2
    answer = installation.run("ask", "What does a return ticket for the ferry cost?")
    assert answer["citations"][0]["uri"].endswith("ferry.md")
    assert len(answer["answer"].split()) > 2
    assert installation.run("status")["release"]["base_model"] != "tiny"
