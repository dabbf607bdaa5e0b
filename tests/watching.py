"""What the tests of add_reader and add_writer share."""

import pytest


def run_until_stopped(loop, limit=20):
    timer = loop.call_later(limit, lambda: pytest.fail("nothing stopped the loop"))
    loop.run_forever()
    timer.cancel()


class WithFileno:
    def __init__(self, number):
        self.number = number

    def fileno(self):
        return self.number
