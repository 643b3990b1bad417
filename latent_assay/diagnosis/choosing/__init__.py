"""Which L0, which width, which multiplier: read from grids of trained SAEs.

A grid along one axis with what was measured of it is a `Sweep`; `measure_setting` measures one of
its settings. `choose_sparsity`, `choose_width` and `choose_balance` read it: where a curve is
smallest (`minimum`) or becomes level (`levelling`), which other places seeds and data leave open,
and what to do, in plain words (`Choice`). `choice_sections` puts choices on a page.
"""

from latent_assay.diagnosis.choosing.balance import choose_balance
from latent_assay.diagnosis.choosing.choice import Choice
from latent_assay.diagnosis.choosing.levelling import Gain, Levelling, levelling
from latent_assay.diagnosis.choosing.measuring import Wanted, measure_setting
from latent_assay.diagnosis.choosing.minimum import Minimum, minimum
from latent_assay.diagnosis.choosing.page import choice_sections
from latent_assay.diagnosis.choosing.sparsity import choose_sparsity
from latent_assay.diagnosis.choosing.sweep import Hedging, Sweep
from latent_assay.diagnosis.choosing.width import choose_width

__all__ = [
    "Choice",
    "Gain",
    "Hedging",
    "Levelling",
    "Minimum",
    "Sweep",
    "Wanted",
    "choice_sections",
    "choose_balance",
    "choose_sparsity",
    "choose_width",
    "levelling",
    "measure_setting",
    "minimum",
]
