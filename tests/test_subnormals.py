from __future__ import annotations

import threading

import pytest
import torch

from gansweep.subnormals import flushed, is_flushed

BELOW = 2e-38
"""A tenth of it is a subnormal number in float32."""


@pytest.fixture(autouse=True)
def _plain():
    torch.set_flush_denormal(False)
    yield
    torch.set_flush_denormal(False)


def tenth() -> float:
    return float(torch.tensor(BELOW).mul(0.1))


def test_a_subnormal_number_is_zero_within_and_as_it_was_outside():
    assert tenth() == pytest.approx(BELOW / 10, rel=1e-4)
    with flushed():
        assert tenth() == 0.0
        assert float(torch.tensor(BELOW)) > 0  # a small one of full precision is not
        assert is_flushed()
    assert tenth() > 0
    assert not is_flushed()


def test_whatever_torchs_own_type_is():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with flushed():
            assert is_flushed()
        assert not is_flushed()
    finally:
        torch.set_default_dtype(before)


def test_it_ends_with_an_error_too():
    with pytest.raises(KeyError), flushed():
        raise KeyError
    assert not is_flushed()


def test_within_another_the_outer_one_lasts():
    with flushed():
        with flushed():
            pass
        assert is_flushed()


def test_other_threads_are_left_alone():
    entered, go_on = threading.Event(), threading.Event()

    def elsewhere() -> None:
        with flushed():
            entered.set()
            go_on.wait(60)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    assert entered.wait(60)
    assert not is_flushed()
    go_on.set()
    thread.join()
