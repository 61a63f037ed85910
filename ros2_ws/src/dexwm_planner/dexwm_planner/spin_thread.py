"""An executor in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable

from rclpy.executors import Executor, ExternalShutdownException

# For callbacks under way, which need what is destroyed afterwards (s). `ros2 launch` waits 5 s
# before it asks again.
_PATIENCE = 4.0


class SpinThread:
    """Spins an executor until it is stopped; a callback that raises ends it."""

    def __init__(self, executor: Executor, on_end: Callable[[], None]) -> None:
        """Prepares; `start` starts the thread.

        Args:
            executor: what spins.
            on_end: called as the spinning ends, whatever ended it.
        """
        self._executor, self._on_end = executor, on_end
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._spin, name='spin')

    def start(self) -> None:
        """Starts spinning."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the spinning and waits for it."""
        self._executor.shutdown(timeout_sec=_PATIENCE)
        self._thread.join()

    def raise_failure(self) -> None:
        """Raises what a callback raised, if one did."""
        if self._failure is not None:
            raise self._failure

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            pass
        except BaseException as error:
            self._failure = error
        finally:
            self._on_end()
