"""The names of the evidence, each with its definition."""

from latent_assay.diagnosis.absorption_evidence import KINSHIP_COLUMNS

COLUMNS: dict[str, str] = {
    **KINSHIP_COLUMNS,
    # ------------------------------------------------------------------ weights
    "nearest": "Largest cosine of the decoder row with another latent's.",
    "nearest_encoder": "Cosine of the encoder rows of that pair.",
    "opposite": "Smallest cosine of the decoder row with another latent's.",
    "encoder_decoder": "Cosine of the latent's own encoder and decoder row.",
    "self_gain": "Encoder row times decoder row: what a unit of the latent's own direction adds.",
    "reach": "How much of its own direction beyond the decoder bias makes it fire, over the "
    "median of all latents.",
    "decoder_length": "Logarithm of the decoder row's length over the median of all latents.",
    "asymmetry": "Largest cos - gain over pairs: the other's decoder row contains this one's, and "
    "this encoder does not see it.",
    "asymmetry_reverse": "The same with the roles exchanged.",
    "asymmetric": "How many latents this one has an asymmetry above 0.2 with.",
    "explained": "Share of the decoder row's square that at most four others explain with "
    "positive coefficients.",
    "first_part": "Largest of those coefficients.",
    "second_part": "Second largest.",
    "crowding": "Mean square of the cosines with the nearest candidates.",
    # ------------------------------------------------------------------ firing
    "firings": "How often the latent fired.",
    "density": "Share of samples in which it fired.",
    "silent": "1 if it never fired, else 0.",
    "crowd": "1 if it fired in more than a tenth of the samples and ten times the mean rate, or in "
    "more than half; else 0.",
    "evidence_size": "Logarithm to base 10 of 1 + firings.",
    # ------------------------------------------------------------------ parent with holes
    "lost": "Estimated share of the latent's feature's samples in which it is silent while another "
    "latent carries the feature.",
    "child_strength": "Of its best child: the smaller of what it carries and what is not retained, "
    "lessened where carried and retained do not add up to one.",
    "child_cosine": "Cosine with that child.",
    "child_carried": "Logarithm of what the child carries, over this latent's median activation.",
    "child_retained": "What this latent keeps of itself where the child fires.",
    "child_lift": "Logarithm of how much oftener than by chance the two fire together.",
    "child_holes": "Share of the child's firings that are holes of this latent.",
    "child_gain": "How much this latent's encoder sees of the child's decoder row.",
    "child_longer": "Logarithm of the child's median activation over this latent's.",
    "weakened": "Largest reduction of this latent's activation where a child fires too.",
    # ------------------------------------------------------------------ child that carries
    "parent_strength": "The same of this latent as the child of its best parent.",
    "parent_cosine": "Cosine with that parent.",
    "parent_carried": "Logarithm of what this latent carries, over the parent's median.",
    "parent_retained": "What the parent keeps of itself where this latent fires.",
    "parent_lift": "Logarithm of how much oftener than by chance the two fire together.",
    "parent_holes": "Share of this latent's firings that are holes of the parent.",
    "parent_gain": "How much the parent's encoder sees of this decoder row.",
    "parent_longer": "Logarithm of this latent's median activation over the parent's.",
    "own_part": "Share of this decoder row's square that others do not explain.",
    # ------------------------------------------------------------------ same direction
    "twin_cosine": "Largest cosine times overlap of firings over pairs: its cosine.",
    "twin_overlap": "The overlap (Jaccard index) of that pair.",
    "sibling_cosine": "Largest cosine among the latents that seldom fire with this one (overlap "
    "below a half).",
    "sibling_overlap": "The overlap of that pair.",
    # ------------------------------------------------------------------ conjunction
    "parts_silent": "Of the two largest parts, the larger retained: 0 if both fall silent.",
    "parts_carried": "Of the two largest parts, the smaller carried.",
    # ------------------------------------------------------------------ hedge
    "hedge_strength": "The smaller of part and offset of the direction hedged most, weighed by how "
    "clear it is and how much oftener the part is taken back than it stays.",
    "hedge_part": "Part of that direction in the decoder row, unsigned.",
    "hedge_offset": "How much the residual along it falls per unit of activation, with the sign of "
    "the part.",
    "hedge_apart": "How clearly samples with and without that direction are apart, in standard "
    "deviations.",
    "hedge_sign": "+1 if it is carried positively, -1 if negatively.",
    "hedge_lift": "Logarithm of how much oftener the direction is present where the latent fires.",
    "hedge_carried": "What the latent carries of it over its usual magnitude elsewhere.",
    "hedge_cancelled": "Share of firings in which that part is taken back by the residual.",
    "hedge_natural": "Share of firings in which it stays.",
    "hedge_silent": "Root mean square of the residual along the decoder row where the latent is "
    "silent, over the median activation.",
    "source_part": "Part of the nearest source of the residuals in the decoder row, unsigned.",
    "tail_part": "Part of the direction that is present where the latent is silent and the "
    "residual along the row largest.",
    "tail_carried": "What the latent carries of that direction, over its magnitude there.",
    "ray_strength": "Tangent of the angle between the decoder row and the ray on which most of its "
    "samples lie, times how much more lie there than on its own.",
    "ray_off": "That tangent.",
    "ray_share": "Share of firings on that ray.",
    "ray_own": "Share of firings on the latent's own ray.",
    "mixed_strength": "Largest cosine with another latent, times how much oftener the part along "
    "it is taken back (by the residual or the other latent) than it stays; unsigned.",
    "mixed_total": "Root of the sum of squares of the same over all candidates.",
    "mixed_cosine": "Cosine with that latent.",
    "mixed_cancelled": "Share of firings in which the part along it is taken back.",
    "mixed_natural": "Share of firings in which it stays.",
    "mixed_given": "P(that latent fires | this one fires).",
    "foreign": "Largest of hedge_strength, mixed_strength and ray_strength.",
    "swing": "Largest relative change of the latent's mean activation with whether a candidate "
    "fires, unsigned.",
    "companion_strength": "Share of the firings in which this latent and another make a direction "
    "together that is neither's, times how far that is from both rows.",
    "companion_off": "Tangent of the angle between that direction and the decoder row, at most 1.",
    "companion_share": "Share of the firings in which the two make it, beyond chance.",
    "residual_slope": "Length of the slope of the residual on the activation, across the decoder "
    "row, without noise; 0 for a row that carries nothing else.",
    "steady_slope": "The same as most samples have it: by least absolute deviations.",
    # ------------------------------------------------------------------ peaks
    "peaks": "Number of separate groups of activations.",
    "peaks_gain": "How much better several groups fit than one, in nats per activation.",
    "peaks_valley": "Depth of the valley between them.",
    "peaks_minor": "Weight of the second largest group.",
    # ------------------------------------------------------------------ continuation
    "handed_over": "Hedging degree of the latent: how much of its decoder row moved into the span "
    "of new latents when it was trained on with them, less the same for random directions.",
}
"""Every column of evidence and what it means; NaN stands for "could not be measured"."""

DRAWINGS: dict[str, str] = {
    "near.latent": "[latent, candidate] the latents with the nearest decoder rows.",
    "near.cosine": "[latent, candidate] their cosines.",
    "near.gain": "[latent, candidate] how much this latent's encoder sees of their decoder rows.",
    "near.gained": "[latent, candidate] how much their encoders see of this decoder row.",
    "near.encoder_cosine": "[latent, candidate] cosines of the encoder rows.",
    "near.part": "[latent, candidate] their coefficients in this decoder row.",
    "near.given": "[latent, candidate] P(the other fires | this one fires).",
    "near.overlap": "[latent, candidate] Jaccard index of the firings.",
    "near.carried": "[latent, candidate] what this latent carries of the other, over its median.",
    "near.holes": "[latent, candidate] share of this latent's firings that are holes of the other.",
    "near.hole_row": "[latent, candidate] number of a sample with such a hole; -1 if none.",
    "histogram.count": "[latent, bin] activations per bin, of those that were kept.",
    "histogram.top": "[latent] upper end of the last bin; the first begins at 0.",
    "mixture.weight": "[latent, group] weights of the groups of activations.",
    "mixture.mean": "[latent, group] their means.",
    "mixture.sd": "[latent, group] their standard deviations.",
    "examples.row": "[latent, example] numbers of samples in which the latent fired, strongest "
    "first; -1 if there were fewer.",
    "examples.activation": "[latent, example] its activation there.",
    "hedge.present_row": "[latent, example] numbers of samples in which the latent fires and the "
    "hedged direction is there; -1 if there were fewer.",
    "hedge.absent_row": "[latent, example] the same, where it is not there.",
    "hedge.latent": "[latent] the latent nearest to the hedged direction; -1 if none is near.",
    "companion.latent": "[latent] the latent with which it most makes a third direction; -1 if "
    "none.",
}
"""Every array for drawing and what it means. Activations are in units of x."""
