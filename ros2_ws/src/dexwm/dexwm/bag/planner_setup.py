"""What a planner works with beside what a plan says itself; recorded once a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dexwm.bag.bag_reader import BagError
from dexwm.planning.compute_setup import ComputeSetup
from dexwm.robot.box import Box


@dataclass(frozen=True)
class PlannerSetup:
    """Model, robot, surroundings and computer.

    Attributes:
        model: folder of the world model.
        checkpoint_digest: SHA-256 of its configuration and weights.
        robot_description: URDF of the robot.
        boxes: that the hand must not touch.
        compute: on what plans are made.
        parameters: all of the planner node's, by name.
    """

    model: str
    checkpoint_digest: str
    robot_description: str
    boxes: tuple[Box, ...]
    compute: ComputeSetup
    parameters: Mapping[str, Any]

    def to_text(self) -> str:
        """All of it, as JSON; numbers keep all their digits."""
        boxes = [
            {'name': box.name, 'size': box.size.tolist(), 'position': box.position.tolist()}
            for box in self.boxes
        ]
        content = {
            'model': self.model,
            'checkpoint_digest': self.checkpoint_digest,
            'robot_description': self.robot_description,
            'boxes': boxes,
            'compute': asdict(self.compute),
            'parameters': dict(self.parameters),
        }
        return json.dumps(content)

    @classmethod
    def from_text(cls, text: str) -> PlannerSetup:
        """What `to_text` wrote.

        Raises:
            BagError: where the text is something else.
        """
        try:
            content = json.loads(text)
            return cls(
                model=content['model'],
                checkpoint_digest=content['checkpoint_digest'],
                robot_description=content['robot_description'],
                boxes=tuple(Box(**box) for box in content['boxes']),
                compute=ComputeSetup(**content['compute']),
                parameters=content['parameters'],
            )
        except (TypeError, KeyError, ValueError) as error:
            raise BagError(f"the planner's setup cannot be read: {error!r}") from error
