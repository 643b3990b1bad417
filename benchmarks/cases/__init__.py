"""One case each: who runs against whom, at which sizes, and what the rows of its table say."""
