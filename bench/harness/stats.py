"""Medians of per-pair ratios with a bootstrap interval; never a mean of rates."""
import random
from statistics import median

RESAMPLES = 4000


def interval(values, seed=1):
    """The 95 % interval of the median, by resampling with a fixed seed."""
    if len(values) < 2:
        return None
    generator = random.Random(seed)
    medians = sorted(median(generator.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES)]


def dig(record, path):
    """The value at a path of keys; None where a part is missing."""
    for key in path:
        if not isinstance(record, dict) or key not in record:
            return None
        record = record[key]
    return record


def figure_value(figure, record):
    """A figure of one run in its own unit; None if the run does not have it."""
    value = dig(record, figure.path)
    if value is None:
        return None
    if figure.per:
        whole = dig(record, figure.per)
        if not whole:
            return None
        value = value / whole
    return value * figure.scale


def ratio(kind, ours, peer):
    """The ratio of one pair, in the direction of its kind; None where it has no meaning."""
    if ours is None or peer is None or ours <= 0 or peer <= 0:
        return None
    return peer / ours if kind == "cpu" else ours / peer


def meets(kind, value, target):
    """True or False; None without a target or value."""
    if target is None or value is None:
        return None
    return value >= target if kind in ("cpu", "rate") else value <= target
