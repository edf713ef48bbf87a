"""No network, one thread, and the fixtures that many tests share."""

import ipaddress
import os
import socket

for _switch in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
    os.environ[_switch] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

settings.load_profile("ci")  # no deadline on a busy machine, and the same draws every time

torch.set_num_threads(1)


def _stays_here(address) -> bool:
    if not isinstance(address, tuple):  # a Unix socket's path
        return True
    host = str(address[0]).split("%")[0]
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in ("localhost", "")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """A connection to anywhere but this machine fails the test that tries it."""
    for name in ("connect", "connect_ex"):
        real = getattr(socket.socket, name)

        def guarded(self, address, real=real):
            if not _stays_here(address):
                raise RuntimeError(f"a test tried to reach {address}: tests run without a network")
            return real(self, address)

        monkeypatch.setattr(socket.socket, name, guarded)


@pytest.fixture(scope="session")
def tokenizer():
    """The tiny offline tokenizer of `helpers`."""
    from helpers import make_tokenizer

    return make_tokenizer()


@pytest.fixture(scope="session")
def smollm2():
    """The embedded default model; tests that use it carry `@pytest.mark.smollm2`. Never change it: take `.copy()`."""
    import icp

    return icp.load("smollm2")
