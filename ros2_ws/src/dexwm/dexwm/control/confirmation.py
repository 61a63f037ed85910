"""A person's answer to a plan, without which it is not executed."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Answer(enum.Enum):
    """What has become of a question."""

    WAITING = 'waiting'
    ACCEPTED = 'accepted'
    DECLINED = 'declined'
    EXPIRED = 'expired'
    WITHDRAWN = 'withdrawn'


@dataclass(frozen=True)
class Question:
    """A plan that waits for a person.

    Attributes:
        plan_id: identifies the plan; every execution has its own.
        task: what it is for.
        waypoints: how many it has.
        expires_ns: when the question lapses.
    """

    plan_id: str
    task: str
    waypoints: int
    expires_ns: int


class Confirmation:
    """One question at a time; an answer holds for that plan alone, and only in time.

    It knows no clock, and is for one thread at a time.

    Args:
        timeout: how long a question stands (s).
    """

    def __init__(self, timeout: float):
        if timeout <= 0.0:
            raise ValueError(f'the confirmation time-out must be positive, got {timeout} s')
        self._timeout_ns = round(timeout * 1e9)
        self._question: Question | None = None
        self._answer = Answer.WAITING

    def ask(self, plan_id: str, task: str, waypoints: int, now_ns: int) -> None:
        """Ask about a plan; an older question is withdrawn."""
        self._question = Question(plan_id, task, waypoints, now_ns + self._timeout_ns)
        self._answer = Answer.WAITING

    def pending(self, now_ns: int) -> Question | None:
        """The question that waits for an answer, if one does."""
        question = self._question
        if question is None or self.look(question.plan_id, now_ns) is not Answer.WAITING:
            return None
        return question

    def answer(self, plan_id: str, accept: bool, now_ns: int) -> str:
        """Take a person's answer.

        Returns:
            Why it does not count; empty if it does.
        """
        question = self.pending(now_ns)
        if question is None:
            return 'no plan waits for a confirmation'
        if question.plan_id != plan_id:
            return f'the plan that waits is {question.plan_id}, not {plan_id!r}'
        self._answer = Answer.ACCEPTED if accept else Answer.DECLINED
        return ''

    def look(self, plan_id: str, now_ns: int) -> Answer:
        """What has become of the question about a plan."""
        question = self._question
        if question is None or question.plan_id != plan_id:
            return Answer.WITHDRAWN
        if self._answer is Answer.WAITING and now_ns >= question.expires_ns:
            return Answer.EXPIRED
        return self._answer

    def withdraw(self, plan_id: str) -> None:
        """Forget the question about a plan, whatever has become of it."""
        if self._question is not None and self._question.plan_id == plan_id:
            self._question = None
