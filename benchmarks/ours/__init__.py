"""What is measured of Latent Assay, each in a process of its own."""
