"""What theory predicts that training finds, in closed form and in float64.

| module | what it answers |
|---|---|
| `absorption` | why sparsity rewards absorption, under each penalty |
| `tied_pair` | why a tied SAE need not absorb, and where it gets stuck |
| `hedging` | what the decoder of a too-narrow SAE must look like |
| `hedging_theorem` | what the literature claims about that, and where it fails |
| `single_latent` | the best single latent, and which features deserve one |
| `identifiability` | losses of the toy model of superposition, and their sparse limit |
| `minimisers` | which weights are optimal in that limit, and that they are not unique |
| `top_k` | Top-k written with ReLU and a step |
| `decomposition` | what an SAE's loss has to do with recovery, and reweighting |
| `counterexamples` | small worlds in which recovery fails |
| `prediction` | the exact expected objective of any recipe, and its gradient, in any finite world |

Where the literature prints a formula that is wrong, the function of that formula ends in
`_as_printed` and its docstring has the counterexample, so that both can be shown side by side.

>>> from latent_assay.theory import PairStates, absorption
>>> absorption.l1(1.0, PairStates(p11=0.05, p10=0.2)).item()
0.25
"""

from latent_assay.theory import (
    absorption,
    counterexamples,
    decomposition,
    hedging,
    hedging_theorem,
    identifiability,
    minimisers,
    prediction,
    single_latent,
    tied_pair,
    top_k,
)
from latent_assay.theory.states import PairStates

__all__ = [
    "PairStates",
    "absorption",
    "counterexamples",
    "decomposition",
    "hedging",
    "hedging_theorem",
    "identifiability",
    "minimisers",
    "prediction",
    "single_latent",
    "tied_pair",
    "top_k",
]
