"""What a window of keys decides, written down without any thought of speed; and how records are put to one."""

from itertools import pairwise

import numpy as np


def observe(window, records):
    """What a window says of each (key, time); a record without a time takes no part."""
    considered = np.array([time is not None for _, time in records], dtype=np.bool_)
    times = np.array([time or 0 for _, time in records], dtype=np.int64)
    return window.observe([key for key, _ in records], times, considered).tolist()


def one_by_one(records, span_us):
    """The rules of the windows' docstrings."""
    kept: list[tuple[bytes, int]] = []
    answers = []
    for key, time in records:
        if time is None:
            answers.append(False)
            continue
        horizon = max([time, *(t for _, t in kept)]) - span_us
        again = time >= horizon and any(k == key and t >= horizon for k, t in kept)
        answers.append(again)
        if not again:
            kept.append((key, time))
    return answers


def pieces(records, cuts):
    """The records in batches, cut there."""
    edges = sorted({0, len(records), *(min(cut, len(records)) for cut in cuts)})
    return [records[a:b] for a, b in pairwise(edges)]
