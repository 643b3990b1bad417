"""Latents that are worth a look, named with a place in the text to check them by."""

import numpy as np
from numpy import ndarray

from latent_assay.diagnosis.evidence import Role
from latent_assay.diagnosis.pages.diagnosed import DiagnosedSAE
from latent_assay.diagnosis.pages.excerpts import Excerpts
from latent_assay.diagnosis.verdict import Verdict
from latent_assay.report.contexts import FULL, LEFT_OUT, OUTSIDE
from latent_assay.report.diagnosis import Named, Piece

_EACH = 3
_FEWEST = 50
"""A latent that fired less often is not shown as an example of anything."""
_STRENGTH = {Verdict.ABSORBED: "lost", Verdict.HEDGED: "hedge_strength"}


def named(one: DiagnosedSAE) -> tuple[Named, ...]:
    """The likeliest absorbed and hedged latents; of equals the clearer first, no token twice."""
    found = []
    for verdict in _STRENGTH:
        tokens: set[str] = set()
        for latent in _likeliest(one, verdict):
            token = name_of(one, latent)
            if token in tokens and token:
                continue
            context, about = _context(one, verdict, latent)
            if one.excerpts is not None and not context:
                continue
            tokens.add(token)
            found.append(
                Named(
                    latent=latent,
                    name=token,
                    verdict=verdict.value,
                    label=verdict.value,
                    probability=float(one.diagnosis.probability(verdict)[latent]),
                    sentence=_sentence(one, verdict, latent),
                    context=context,
                    about=about,
                )
            )
            if len(found) % _EACH == 0 and found[-_EACH].verdict == verdict.value:
                break
    return tuple(found)


def name_of(one: DiagnosedSAE, latent: int) -> str:
    """The token that a latent fires on most; empty without text."""
    text = one.excerpts
    if text is None:
        return ""
    at = int(np.searchsorted(text.example_latent, latent))
    if at == len(text.example_latent) or text.example_latent[at] != latent:
        return ""
    return text.corpus.pieces[text.corpus.ids[text.example_position[at]]].strip()


def _likeliest(one: DiagnosedSAE, verdict: Verdict) -> list[int]:
    found = one.diagnosis
    columns = found.evidence.columns
    clearer = np.nan_to_num(columns.get(_STRENGTH[verdict], np.zeros(found.width)))
    fires = columns.get("firings", np.full(found.width, np.inf)) >= _FEWEST
    latents = np.flatnonzero(found.found(verdict) & fires)
    headline = np.array([found.verdict(int(i)) == verdict for i in latents], dtype=np.bool_)
    sure = np.round(found.probability(verdict)[latents], 2)
    order = np.lexsort((-clearer[latents], -sure, ~headline))
    return [int(i) for i in latents[order]]


def _sentence(one: DiagnosedSAE, verdict: Verdict, latent: int) -> str:
    relatives = one.diagnosis.evidence.relatives.of(latent)
    columns = one.diagnosis.evidence.columns
    role = Role.CHILD if verdict == Verdict.ABSORBED else Role.HEDGED
    others = relatives.other[relatives.role == int(role)]
    shares = relatives.share[relatives.role == int(role)]
    if verdict == Verdict.ABSORBED:
        lost = columns.get("lost", np.full(1, np.nan))
        how_much = f"{lost[latent]:.0%} of " if len(lost) > latent else ""
        who = ", ".join(_called(one, int(other)) for other in others[:2])
        more = f" and {len(others) - 2} more" if len(others) > 2 else ""
        instead = (
            f", where {who}{more} fire{'s' if len(others) == 1 else ''} instead" if who else ""
        )
        return f"Silent in an estimated {how_much}its feature's samples{instead}."
    if not len(others):
        return "Carries part of a direction that is not its own, wherever it fires."
    what = (
        f"the direction of {_called(one, int(others[0]))}"
        if others[0] >= 0
        else "a direction that no latent stands for"
    )
    part = f"{float(shares[0]):+.2f}".replace("-", "−")
    return f"Carries {what} with a part of {part}, present or not, wherever it fires."


def _called(one: DiagnosedSAE, latent: int) -> str:
    token = name_of(one, latent)
    return f"#{latent} “{token}”" if token else f"#{latent}"


def _context(one: DiagnosedSAE, verdict: Verdict, latent: int) -> tuple[tuple[Piece, ...], str]:
    text = one.excerpts
    if text is None:
        return (), ""
    if verdict == Verdict.ABSORBED:
        first, last = np.searchsorted(text.hole_parent, [latent, latent + 1])
        if first == last:
            return (), ""
        at = first + int(text.hole_asked[first:last].argmax())
        child = int(text.hole_child[at])
        return (
            _pieces(text, int(text.hole_position[at]), *text.hole_level[at]),
            f"Here {_called(one, child)} fires and #{latent} does not, although "
            f"{text.hole_asked[at]:.0%} of its usual activation is there.",
        )
    at = int(np.searchsorted(text.hedge_latent, latent))
    if at == len(text.hedge_latent) or text.hedge_latent[at] != latent:
        return (), ""
    none = np.full(text.config.window, OUTSIDE, dtype=np.int8)
    return (
        _pieces(text, int(text.hedge_position[at]), text.hedge_level[at], none),
        "Here what it hedges is there; its page shows where it is not.",
    )


def _pieces(text: Excerpts, position: int, own: ndarray, other: ndarray) -> tuple[Piece, ...]:
    corpus, before = text.corpus, text.config.before
    inside = [k for k in range(text.config.window) if own[k] != OUTSIDE]
    words = [corpus.pieces[corpus.ids[position - before + k]] for k in inside]
    words[0] = words[0].lstrip() or words[0]
    return tuple(
        Piece(
            text=word,
            level=_level(int(own[k])),
            other=_level(int(other[k])),
            peak=k == before,
        )
        for k, word in zip(inside, words, strict=True)
    )


def _level(value: int) -> float:
    return 0.0 if value in (OUTSIDE, LEFT_OUT) else abs(value) / FULL
