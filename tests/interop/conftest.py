"""Only where LATENT_ASSAY_PEERS names a folder for the peers' environments, as `make interop` does.

The first run installs each peer there from PyPI, two minutes and 2 GB for each; later ones take
less than a minute together.
"""

import os

from .environments import VARIABLE

collect_ignore_glob = ["peers/*"] + ([] if os.environ.get(VARIABLE) else ["test_*.py"])


def pytest_configure(config):
    config.addinivalue_line("markers", "interop: needs environments of the peers' own")
