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
    Summary,
    Test,
    compare,
    friedman,
    holm,
    summarise,
)

__all__ = [
    "Comparison",
    "Flips",
    "Friedman",
    "Power",
    "Resampled",
    "Settings",
    "Summary",
    "Test",
    "across",
    "compare",
    "detectable",
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
