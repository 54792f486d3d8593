"""For processes that tests start."""

import signal


def heed_ctrl_c() -> None:
    """Background jobs of a shell, as the tests may be one, ignore it and hand that on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
