"""Only where LATENT_ASSAY_PEERS names a folder for the peers' environments, as in CI.

    LATENT_ASSAY_PEERS=/var/cache/peers python -m pytest -q tests/interop

The first run installs each peer there from PyPI; later ones take seconds.
"""

import os

from .environments import VARIABLE

collect_ignore_glob = ["peers/*"] + ([] if os.environ.get(VARIABLE) else ["test_*.py"])


def pytest_configure(config):
    config.addinivalue_line("markers", "interop: needs environments of the peers' own")
