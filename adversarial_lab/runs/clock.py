"""Work that ends when its time is over, wherever it is: what `plan` stops a training by."""

import _thread
import signal
import threading
from types import FrameType
from typing import Any

AGAIN = 2.0  # seconds after which an interruption that was swallowed is repeated


class TimeUp(KeyboardInterrupt):
    """The time is over. An interruption, so that whatever lets Ctrl-C pass lets this pass."""


class ProbeTimeUp(TimeUp):
    """The time of a probe is over; the work as a whole goes on."""


class limit:  # noqa: N801, as contextlib's own
    """Raises `kind` in the block once the seconds are over; for the main thread. May be nested.

    Ctrl-C stays what it was. A call that never comes back to Python is not ended. In the block
    means: neither while it is entered nor while it is left, where nobody would clean up.
    """

    def __init__(self, seconds: float, kind: type[TimeUp] = TimeUp) -> None:
        self.seconds, self.kind = seconds, kind
        self.inside, self.rung, self.lock = False, False, threading.Lock()
        self.left = threading.Event()

    def __enter__(self) -> None:
        self.before: Any = signal.getsignal(signal.SIGINT)
        signal.signal(signal.SIGINT, self._hear)
        threading.Thread(target=self._ring, daemon=True).start()
        self.inside = True

    def __exit__(self, *_: Any) -> None:
        self.inside = False
        self.left.set()
        with self.lock:  # a ring under way has sent its signal
            pass
        signal.signal(signal.SIGINT, self.before)  # and here it was delivered, to nobody

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if not self.rung and callable(self.before):
            self.before(number, frame)
        here = frame is not None and frame.f_code in (
            limit.__enter__.__code__,
            limit.__exit__.__code__,
        )
        if self.rung and self.inside and not here:
            raise self.kind(f"{self.seconds:.0f} seconds are over")

    def _ring(self) -> None:
        while not self.left.wait(AGAIN if self.rung else max(self.seconds, 0)):
            with self.lock:
                if not self.left.is_set():
                    self.rung = True
                    _thread.interrupt_main()
