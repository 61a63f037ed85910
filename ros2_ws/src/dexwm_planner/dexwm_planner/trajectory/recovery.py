"""Ways in which arm and hand are brought back after a fault, when a person asks for it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Protocol

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import Trigger

_FOUND = 2.0
_ANSWERED = 15.0


class RecoveryError(RuntimeError):
    """Arm or hand could not be recovered; the message says which step failed and why."""


class Recovery(Protocol):
    """Clears errors and has what was recovered held where it stands."""

    def recover(self) -> None:
        """Recover; blocks, and needs an executor that spins in another thread.

        Raises:
            RecoveryError: if a step failed; the steps after it were not tried.
        """


class DriverRecovery:
    """Through a driver's own service: it clears the errors and takes control again.

    Args:
        node: the client's node.
        service: the driver's service.
    """

    def __init__(self, node: Node, service: str):
        self._client = node.create_client(
            Trigger, service, callback_group=ReentrantCallbackGroup()
        )

    def recover(self) -> None:
        """Have the driver recover.

        Raises:
            RecoveryError: if it does not answer, or says that it could not.
        """
        answer = call(self._client, Trigger.Request())
        if not answer.success:
            raise RecoveryError(answer.message)


class RobotRecovery:
    """The parts of the robot one after the other; one that fails does not keep back the next.

    Args:
        parts: their recoveries by name.
    """

    def __init__(self, parts: Mapping[str, Recovery]):
        self._parts = dict(parts)

    def recover(self) -> None:
        """Recover all parts.

        Raises:
            RecoveryError: if some could not be; it names them all.
        """
        problems = []
        for name, part in self._parts.items():
            try:
                part.recover()
            except RecoveryError as error:
                problems.append(f'{name}: {error}')
        if problems:
            raise RecoveryError('; '.join(problems))


def call(client: Any, request: Any) -> Any:
    """Call a service and wait for the answer.

    Raises:
        RecoveryError: if the service is not there, or does not answer.
    """
    if not client.wait_for_service(_FOUND):
        raise RecoveryError(f'there is no service {client.srv_name}: start its node')
    return finished(client.call_async(request), client.srv_name)


def finished(future: Future, name: str) -> Any:
    """Wait for a future that another thread completes.

    Raises:
        RecoveryError: if that takes too long.
    """
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    if not done.wait(_ANSWERED):
        raise RecoveryError(f'{name} did not answer within {_ANSWERED:g} s')
    return future.result()
