"""How sure a ranking is, in words; the numbers come after them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from crossxai.report import words
from crossxai.report.certainty import Ranking
from crossxai.report.run import Run
from crossxai.report.wording import code, names, together

FIRM = 0.95
MANY = 100_000


def sentences(run: Run, rankings: Sequence[Ranking]) -> list[str]:
    """What the rankings of one metric say, models together where they say the same; the firmness of the order first."""
    found: list[str] = []
    for say in (_first, _told_apart, _steps, _estimates, _power, _left_out):
        found += together({r.model: text for r in rankings if (text := say(r))}, run.models)
    return found


def _first(r: Ranking) -> str:
    best, second = r.places[0], max(r.places[1:], key=lambda p: p.first)
    if r.n == 1:
        return f"One sample{{where}}: `{best.label}` is first on it, and nothing says that it would be on another."
    drawn = f"when the {words.count(r.n, 'sample')} are drawn again"
    equal = [p.label for p in r.places if math.isclose(p.mean, best.mean, rel_tol=1e-12, abs_tol=1e-15)]
    if len(equal) == len(r.places):
        return f"No ranking{{where}}: all {len(equal)} explainers have the same mean."
    share = sum(p.first for p in r.places if p.label in equal)
    shown = words.percent(share)
    if len(equal) > 1:
        text = f"{names(equal)} share the first place{{where}}, and keep it in {shown} of cases {drawn}."
    elif share >= FIRM:
        text = f"The first place is firm{{where}}: {code(best.label)} stays first in {shown} of cases {drawn}."
    else:
        text = f"No firm first place{{where}}: {code(best.label)} stays first in {shown} of cases {drawn}"
        text += f", {code(second.label)} is first in {words.percent(second.first)}."
    return f"{text} The whole order of {len(r.places)} stays in {words.percent(r.same_order)}."


def _told_apart(r: Ranking) -> str:
    if not math.isfinite(r.p):
        return ""
    numbers = (
        f"Friedman {words.p_value(r.p)}, critical difference of mean ranks {words.number(r.critical_difference, 2)}"
    )
    if r.p >= 0.05:
        return f"By rank over samples, no two of these {len(r.places)} explainers are told apart{{where}} ({numbers})."
    top = min(r.places, key=lambda p: p.rank)
    same = [p.label for p in r.places if p.label != top.label and set(p.groups) & set(top.groups)]
    equal = [p.label for p in r.places if math.isclose(p.rank, top.rank, rel_tol=1e-9)]
    if len(equal) > 1:
        apart = [p.label for p in r.places if not set(p.groups) & set(top.groups)]
        text = f"By rank over samples{{where}}, {names(equal)} share the best mean rank"
        return f"{text}; told apart from them: {names(apart) or 'none of the others'} ({numbers})."
    text = f"By rank over samples{{where}}, {code(top.label)} is best"
    text += "" if top.mean == r.places[0].mean else " (by the mean it is another: a few samples decide it)"
    apart = [p.label for p in r.places if p is not top and p.label not in same]
    if not same:
        return f"{text} and told apart from all others ({numbers})."
    if len(same) <= len(apart):
        return f"{text}; not told apart from it: {names(same)} ({numbers})."
    return f"{text}; told apart from it: {f'only {names(apart)}' if apart else 'none of the others'} ({numbers})."


def _steps(r: Ranking) -> str:
    if not r.fewer:
        return ""
    label, parts = r.places[0].label, []
    for f in r.fewer:
        stays = (
            "the same is first"
            if label in f.first
            else f"{names(f.first, 3)} {'is' if len(f.first) == 1 else 'are'} first instead"
        )
        moved = f"{words.percent(f.flips, 1)} of the pairs change places" if f.flips else "no pair changes places"
        parts.append(f"at {f.steps} steps, {stays} and {moved}")
    return f"Fewer steps{{where}}, read from the same curves of {r.steps}: {'; '.join(parts)}."


def _estimates(r: Ranking) -> str:
    if r.estimated is None:
        return ""
    e = r.estimated
    text = (
        f"Areas are estimates{{where}}, from {words.number(e.points, 0)} of {e.whole} points a sample on average: leaving out "
        f"the others moves a mean by up to {words.brief(e.half_width)} (95%), which the intervals of the table contain"
    )
    if math.isfinite(e.precision):
        text += f"; the precision asked for, {words.brief(e.precision)}, is reached by {e.reached} of {e.of} explainers"
    return f"{text}."


def _power(r: Ranking) -> str:
    if r.n < 6:
        return f"Too few samples{{where}}: with {r.n} no difference, however large, reaches p < 0.05; at least 6 are needed."
    text = f"With {words.count(r.n, 'sample')}{{where}}, one comparison of two explainers finds a difference of "
    text += f"{words.brief(r.typical)} or more with a chance of 80%"
    if not r.needed:
        return f"{text}; all means are equal."
    first, second = code(r.places[0].label), code(r.runner)
    # A figure for planning: two digits of it are more than the spread of so few samples is known to.
    digits = max(0, len(str(r.needed)) - 2)
    about = -(-r.needed // 10**digits) * 10**digits
    takes = f"more than {MANY:,}" if r.needed > MANY else f"{'about ' if digits else ''}{about:,}"
    return (
        f"{text}; {first} and {second} differ by {words.brief(r.seen)}, and to find one as small takes {takes} samples."
    )


def _left_out(r: Ranking) -> str:
    parts = []
    if r.left_out:
        verb = "lacks" if r.left_out == 1 else "lack"
        parts.append(f"{words.count(r.left_out, 'sample')} {verb} a value of some explainer")
    if r.without:
        parts.append(f"{names(r.without)} {'has' if len(r.without) == 1 else 'have'} no value")
    return f"Left out here{{where}}: {'; '.join(parts)}." if parts else ""
