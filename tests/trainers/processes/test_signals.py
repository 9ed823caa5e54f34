import concurrent.futures
import signal
import subprocess
import sys
import time

import pytest

from trainers.processes.signals import Signals

LISTENER = """
import time
from trainers.processes.signals import Signals

with Signals() as signals:
    print("listening", flush=True)
    for _ in range(30):
        time.sleep(0.1)
print(signals.received)
"""


@pytest.mark.parametrize(("pause", "code"), [(0.01, 0), (1.2, -signal.SIGTERM)])
def test_a_second_signal_stops_at_once_unless_it_is_the_echo_of_the_first(command, pause, code):
    words = [sys.executable, "-c", LISTENER]
    process = command.popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "listening\n"
    process.send_signal(signal.SIGTERM)
    time.sleep(pause)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == code
    assert output == ("SIGTERM\n" if code == 0 else "")
    assert errors.count("saving after this step") == 1


def test_in_another_thread_no_handler_is_installed_and_none_is_removed():
    def listen():
        with Signals() as signals:
            inside = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        return inside, signals.received

    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert pool.submit(listen).result() == (before, "")
    with Signals():
        installed = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        assert set(installed).isdisjoint(before)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            assert pool.submit(listen).result() == (installed, "")
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == installed
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
