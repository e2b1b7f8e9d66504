"""One thread for every test: the count can change the last bits of a sum, and small networks are slower with two."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    import torch

    torch.set_num_threads(1)
