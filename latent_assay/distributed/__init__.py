"""Several processes that train one SAE, or share one harvest.

Every process is a *rank*. `Ranks` holds the few exchanges between them, each in plain sight;
`Partition` says which latents a rank holds; `Heartbeat` tells who was lost.
"""

from latent_assay.distributed.partition import Partition
from latent_assay.distributed.ranks import RankLost, Ranks
from latent_assay.distributed.selection import largest_over_ranks, threshold_over_ranks

__all__ = ["Partition", "RankLost", "Ranks", "largest_over_ranks", "threshold_over_ranks"]
