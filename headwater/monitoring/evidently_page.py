"""Evidently's page over two samples: distributions and its own tests, for a person to look at.

What decides about drift is `headwater.monitoring.panels`: Evidently's p-values hold for one look.
"""

from pathlib import Path

import numpy as np

from headwater.monitoring.features import NUMBERS, Sample
from headwater.settings import quiet_libraries


def write_evidently(reference: Sample, current: Sample, html: Path) -> None:
    """Write the page over all numbers that both samples know."""
    quiet_libraries()
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    samples = reference, current
    known = [
        name
        for name in NUMBERS
        if all(np.isfinite(sample.column(name)).any() for sample in samples)
    ]
    definition = DataDefinition(numerical_columns=known)
    old, new = (
        Dataset.from_pandas(pd.DataFrame({name: sample.column(name) for name in known}), definition)
        for sample in samples
    )
    report = Report([ValueDrift(column=name, method="ks") for name in known], include_tests=True)
    report.run(current_data=new, reference_data=old).save_html(str(html))
