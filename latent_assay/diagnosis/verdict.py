"""The verdicts: what a latent can be made of, defined so that a world's truth can decide each."""

from enum import StrEnum


class Verdict(StrEnum):
    r"""What a latent is made of.

    Every failure is a statement about true features, so that in a world of known features it is
    either true or false; a detector sees only the SAE and its activations. A latent may have
    several failures at once. *Its feature* is the feature that the latent's direction is nearest
    to; a latent *carries* a feature if its decoder row has a part along that feature's direction.
    """

    CLEAN = "clean"
    """The latent stands for one feature: it fires where the feature does, and its decoder row lies
    along the feature and carries nothing else. None of the failures below is true of it."""
    ABSORBED = "absorbed"
    """A parent with holes: the latent stays silent, or fires too weakly, in samples in which its
    feature is there, because another latent that fires there carries the feature instead."""
    ABSORBING = "absorbing"
    """A child that carries its parent: the latent stands for a feature of its own, and its decoder
    row also carries the feature of another latent, which falls silent, or weak, when it fires."""
    HEDGED = "hedged"
    """The decoder row carries parts of features that no latent firing with it stands for, in
    proportion to their correlation with the latent's own: positive for features that come with it,
    negative for features that avoid it. The part is wrong in every single sample: too large where
    the other feature is absent, too small where it is present."""
    SPLIT = "split"
    """Several latents share one feature, each firing in its own part of the feature's samples:
    nearly the same decoder row, seldom together."""
    DUPLICATE = "duplicate"
    """Another latent has nearly the same decoder row and fires in the same samples."""
    COMPOSED = "composed"
    """The latent stands for a conjunction: its decoder row is nearly the sum of two or more
    features that have latents of their own or appear alone, and it fires where they fire
    together. It has no feature of its own."""
    SEVERAL_PEAKS = "several_peaks"
    """The latent's positive activations come in several separate groups where one feature's
    magnitudes come in one: more than one thing makes it fire, or another latent takes a part."""
    DENSE = "dense"
    """The latent fires far more often than the SAE's others: in more than a tenth of all samples
    and ten times the mean rate, or in more than half."""
    DEAD = "dead"
    """The latent never fires."""
    UNDECIDED = "undecided"
    """Too little is known: the latent fired too seldom, or no probability is decisive."""


FAILURES: tuple[Verdict, ...] = tuple(
    verdict for verdict in Verdict if verdict not in (Verdict.CLEAN, Verdict.UNDECIDED)
)
"""The verdicts that name a failure; each has a probability of its own."""

VERDICTS: tuple[Verdict, ...] = tuple(Verdict)
"""All verdicts, in the order of the columns of a diagnosis."""

PRECEDENCE: tuple[Verdict, ...] = (
    Verdict.DEAD,
    Verdict.DUPLICATE,
    Verdict.COMPOSED,
    Verdict.SPLIT,
    Verdict.ABSORBING,
    Verdict.ABSORBED,
    Verdict.HEDGED,
    Verdict.DENSE,
    Verdict.SEVERAL_PEAKS,
)
"""Which of several decided failures is the headline: the one that explains most of the others
comes first. A duplicate is also a split feature; a composed latent also carries its parts; holes
and hedges both make several peaks."""


_MEANINGS: dict[Verdict, str] = {
    Verdict.CLEAN: "Stands for one feature: fires where that does, and carries nothing else.",
    Verdict.ABSORBED: "A parent with holes: silent, or too weak, in samples in which its feature "
    "is there, because another latent carries it instead.",
    Verdict.ABSORBING: "A child that carries its parent: its decoder row also holds the feature "
    "of another latent, which falls silent when it fires.",
    Verdict.HEDGED: "Carries parts of correlated features that no latent stands for; the part is "
    "wrong in every sample.",
    Verdict.SPLIT: "Shares one feature with other latents, each firing in its own part of the "
    "samples.",
    Verdict.DUPLICATE: "Another latent has nearly the same decoder row and fires in the same "
    "samples.",
    Verdict.COMPOSED: "Stands for a conjunction of features and has none of its own.",
    Verdict.SEVERAL_PEAKS: "Its activations come in several separate groups: more than one thing "
    "makes it fire.",
    Verdict.DENSE: "Fires far more often than the SAE's others.",
    Verdict.DEAD: "Never fires.",
    Verdict.UNDECIDED: "Fired too seldom, or no probability is decisive.",
}


def meaning(verdict: Verdict | str) -> str:
    """What a verdict says of a latent, in one sentence; `Verdict` has the definitions in full."""
    return _MEANINGS[Verdict(verdict)]
