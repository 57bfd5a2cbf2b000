"""Statistics over samples: intervals of means, paired comparisons, rankings of explainers, and how many samples they need."""

from crossxai.evaluation.statistics.certainty import (
    Flips,
    Power,
    Resampled,
    Settings,
    across,
    detectable,
    flips,
    power_of,
    ranks,
    resample,
    samples_needed,
    spread,
)
from crossxai.evaluation.statistics.comparison import (
    Comparison,
    Friedman,
    Test,
    compare,
    friedman,
    holm,
)
from crossxai.evaluation.statistics.intervals import FEWEST, Groups, Summary, bands, effective, summarise

__all__ = [
    "FEWEST",
    "Comparison",
    "Flips",
    "Friedman",
    "Groups",
    "Power",
    "Resampled",
    "Settings",
    "Summary",
    "Test",
    "across",
    "bands",
    "compare",
    "detectable",
    "effective",
    "flips",
    "friedman",
    "holm",
    "power_of",
    "ranks",
    "resample",
    "samples_needed",
    "spread",
    "summarise",
]
