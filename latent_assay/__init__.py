"""Latent Assay: train sparse autoencoders and find out what each latent is made of."""
