"""Parents and children in a world: how much of the children a parent's latent carries."""

from latent_assay.metrics import cosine_map, encoder_cosine_map, match
from latent_assay.report import Cell, Column, MetricsTable, Row
from latent_assay.sae import SAE
from latent_assay.worlds import World


def families(saes: list[tuple[str, SAE]], world: World) -> list[MetricsTable]:
    r"""For every parent with children, a table of what its latent has to do with them.

    Of each member, the latent matched to the parent is taken. Its encoder's mean cosine with the
    children is negative under absorption (the latent is kept from firing when a child does) and
    positive under hedging (it fires for the child too). The decoder's tells what it adds.

    **Arguments:**
    - `saes`: names and SAEs.
    - `world`: their world; without parents there is no table.
    """
    tables = []
    children_of: dict[int, list[int]] = {}
    for child, parent in enumerate(world.parents):
        if parent is not None:
            children_of.setdefault(parent, []).append(child)
    for parent, children in children_of.items():
        rows = []
        for name, sae in saes:
            features = world.features.to(sae.W_dec)
            latent = match(sae.W_dec, features).latent[:, parent]
            encoder = encoder_cosine_map(sae.W_enc, features).detach()
            decoder = cosine_map(sae.W_dec, features).detach()
            found = (latent >= 0).nonzero().squeeze(-1)
            own = (found, latent[found])
            on_children = {
                "encoder_on_children": encoder[own][:, children].mean(-1),
                "decoder_on_children": decoder[own][:, children].mean(-1),
                "decoder_on_parent": decoder[own][:, parent],
            }
            spread = encoder[own][:, children]
            on_children["largest_on_a_child"] = spread.gather(
                1, spread.abs().argmax(1, keepdim=True)
            ).squeeze(1)
            rows.append(
                Row(
                    name=name,
                    kind="trained",
                    cells={key: Cell.over(v.tolist()) for key, v in on_children.items()},
                )
            )
        listed = ", ".join(map(str, children))
        tables.append(
            MetricsTable(
                title=f"The latent of parent {parent} and its children {listed}",
                columns=_COLUMNS,
                rows=tuple(rows),
                sentence=(
                    "Below zero in the first column the latent is kept from firing when a child "
                    "fires: "
                    "absorption. Above zero it carries part of the children: hedging. Clean is "
                    "zero."
                ),
            )
        )
    return tables


_COLUMNS = (
    Column(
        key="encoder_on_children",
        label="encoder on children",
        direction="none",
        definition="Mean cosine of the latent's encoder with the children; negative: absorption.",
    ),
    Column(
        key="largest_on_a_child",
        label="largest on one child",
        direction="none",
        definition="The cosine of largest magnitude of the latent's encoder with a child.",
    ),
    Column(
        key="decoder_on_children",
        label="decoder on children",
        direction="none",
        definition="Mean cosine of the latent's decoder with the children; positive: hedging.",
    ),
    Column(
        key="decoder_on_parent",
        label="decoder on parent",
        direction="higher",
        definition="Cosine of the latent's decoder with its own feature; clean is 1.",
    ),
)
