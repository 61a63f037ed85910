"""What Franka's services are told before a controller may run: load and collision thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from ament_index_python.packages import get_package_share_directory
from numpy.typing import NDArray

from dexwm.robot.joints import ARM_JOINTS
from dexwm_franka_bringup.cell_config import PACKAGE

MAX_PAYLOAD = 3.0
"""What an FR3 may carry, kg."""


class ArmConfigError(ValueError):
    """The arm's configuration file cannot be used."""


@dataclass(frozen=True)
class ArmConfig:
    """Load on the flange, and what counts as contact and as collision.

    Attributes:
        mass: of everything beyond the flange, kg.
        center_of_mass: (3,) in the flange's frame, m.
        inertia: (3, 3) about the centre of mass, along the flange's axes, kg m^2.
        contact_torques: (7,) joint torques that count as contact, N m.
        collision_torques: (7,) joint torques that stop the robot, N m.
        contact_forces: (6,) forces (N) and torques (N m) that count as contact.
        collision_forces: (6,) forces (N) and torques (N m) that stop the robot.
    """

    mass: float
    center_of_mass: NDArray[np.float64]
    inertia: NDArray[np.float64]
    contact_torques: NDArray[np.float64]
    collision_torques: NDArray[np.float64]
    contact_forces: NDArray[np.float64]
    collision_forces: NDArray[np.float64]

    def __post_init__(self) -> None:
        if not 0 < self.mass <= MAX_PAYLOAD:
            raise ArmConfigError(f'load.mass is {self.mass} kg: an FR3 carries {MAX_PAYLOAD:g}')
        if not np.allclose(self.inertia, self.inertia.T):
            raise ArmConfigError('load.inertia must be symmetric')
        if (np.linalg.eigvalsh(self.inertia) <= 0).any():
            raise ArmConfigError('load.inertia must be positive definite: no body has this one')
        for part in ('torques', 'forces'):
            contact, collision = (getattr(self, f'{kind}_{part}') for kind in _KINDS)
            if (contact <= 0).any() or (collision < contact).any():
                raise ArmConfigError(
                    f'collision.{part} must be at least contact.{part}, and both positive'
                )

    def load_request(self) -> dict[str, float | list[float]]:
        """Fields of franka_msgs/srv/SetLoad; matrices by columns."""
        return {
            'mass': self.mass,
            'center_of_mass': self.center_of_mass.tolist(),
            'load_inertia': self.inertia.ravel(order='F').tolist(),
        }

    def collision_request(self) -> dict[str, list[float]]:
        """Fields of franka_msgs/srv/SetFullCollisionBehavior; the same in all phases."""
        fields = {}
        for part, lower, upper in (
            ('torque', self.contact_torques, self.collision_torques),
            ('force', self.contact_forces, self.collision_forces),
        ):
            for phase in ('acceleration', 'nominal'):
                fields[f'lower_{part}_thresholds_{phase}'] = lower.tolist()
                fields[f'upper_{part}_thresholds_{phase}'] = upper.tolist()
        return fields


_KINDS = ('contact', 'collision')


def load_arm_config(path: str | Path | None = None) -> ArmConfig:
    """Reads the arm's configuration.

    Args:
        path: YAML file; the package's ``config/arm.yaml`` if not given.

    Raises:
        ArmConfigError: The file is absent, lacks a key or has a value that makes no sense.
    """
    if not path:
        path = Path(get_package_share_directory(PACKAGE)) / 'config' / 'arm.yaml'
    path = Path(path).expanduser().absolute()
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ArmConfigError(f'cannot read the arm configuration {path}: {error}') from error
    try:
        load = content['load']
        thresholds = {
            f'{kind}_{part}': _numbers(content[kind], part, size)
            for kind in _KINDS
            for part, size in (('torques', len(ARM_JOINTS)), ('forces', 6))
        }
        return ArmConfig(
            mass=float(load['mass']),
            center_of_mass=_numbers(load, 'center_of_mass', 3),
            inertia=_numbers(load, 'inertia', 9).reshape(3, 3),
            **thresholds,
        )
    except KeyError as error:
        raise ArmConfigError(f'{path}: {error} is missing') from error
    except (TypeError, ValueError) as error:
        raise ArmConfigError(f'{path}: {error}') from error


def _numbers(section: dict[str, list[float]], key: str, size: int) -> NDArray[np.float64]:
    values = np.array(section[key], dtype=np.float64)
    if values.shape != (size,) or not np.isfinite(values).all():
        raise ValueError(f'{key} must be {size} finite numbers, got {section[key]}')
    return values
