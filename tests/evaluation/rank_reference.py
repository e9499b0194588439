"""Plain evaluation, one query at a time, written from the rules of the protocols."""

import numpy as np

RANKS = (1, 5, 10, 20)


def one_query(row, pid, cam, gallery_ids, gallery_cams, rule, unique):
    """CMC at the ranks, AP and INP of a query; None without a right image."""
    ranked = []
    for g in np.argsort(row, kind='stable'):
        if rule == 'same_place' and cam == 3 and gallery_cams[g] == 2:
            continue
        same_view = gallery_ids[g] == pid and gallery_cams[g] == cam
        if rule == 'same_view' and same_view:
            continue
        ranked.append(int(gallery_ids[g]))
    positions = [k for k, other in enumerate(ranked, 1) if other == pid]
    if not positions:
        return None
    counted = list(dict.fromkeys(ranked)) if unique else ranked
    first = counted.index(pid) + 1
    precision = [n / k for n, k in enumerate(positions, 1)]
    cmc = [float(first <= k) for k in RANKS]
    return [*cmc, sum(precision) / len(precision), len(positions) / positions[-1]]


def evaluate(distances, query, gallery, rule, unique):
    """Mean scores, number of valid queries; `query`, `gallery` are (ids, cams)."""
    scores = [
        one_query(row, pid, cam, *gallery, rule, unique)
        for row, pid, cam in zip(distances, *query, strict=True)
    ]
    valid = [score for score in scores if score is not None]
    names = [*(f'R{k}' for k in RANKS), 'mAP', 'mINP']
    return dict(zip(names, np.mean(valid, axis=0), strict=True)), len(valid)
