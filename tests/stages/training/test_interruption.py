import os
import signal

import pytest

from autoseg.stages.training.interruption import watched


def test_a_deferred_signal_is_only_noted_and_a_second_one_interrupts():
    with watched() as watch:
        watch.deferred = True
        os.kill(os.getpid(), signal.SIGTERM)
        assert watch.asked
        with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_interrupts_at_once_where_nothing_would_be_lost():
    with pytest.raises(KeyboardInterrupt), watched():
        os.kill(os.getpid(), signal.SIGUSR1)


def test_what_was_in_force_before_is_in_force_again():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
    with watched():
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)] == before
