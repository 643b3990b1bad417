"""What is measured of others, each in a process of its own, with that peer's own Python."""
