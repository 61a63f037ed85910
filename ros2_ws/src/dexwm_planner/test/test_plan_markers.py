"""A plan as markers for RViz."""

import re
import time

import numpy as np
import pytest
import rclpy
from dexwm_msgs.msg import Plan
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectoryPoint
from visualization_msgs.msg import Marker, MarkerArray

from dexwm.robot.joints import HOME, JOINTS
from dexwm.robot.model import RobotModel
from dexwm_franka_bringup.description import robot_description
from dexwm_planner.graph.domain import DomainLease
from dexwm_planner.planner.plan_markers import DescriptionError, plan_markers, read_visuals
from dexwm_planner.planner.plan_markers_node import (
    PLAN_TOPIC,
    TOPIC,
    WAITING_TOPIC,
    PlanMarkersNode,
)


@pytest.fixture(scope='module')
def description():
    return robot_description()


@pytest.fixture(scope='module')
def robot(description):
    return RobotModel.from_urdf(description)


def transform(pose):
    """(4, 4) of a pose, written out from the unit quaternion."""
    x, y, z, w = (getattr(pose.orientation, axis) for axis in 'xyzw')
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, 3] = [pose.position.x, pose.position.y, pose.position.z]
    return matrix


def test_every_mesh_of_the_robot_is_found(description):
    visuals = read_visuals(description)
    seen = re.findall(r'<visual>.*?</visual>', description, re.DOTALL)
    assert len(visuals) == sum('<mesh' in each for each in seen) > 25
    assert {'fr3_link0', 'palm_link', 'link_15.0_tip'} <= {visual.link for visual in visuals}


def test_origin_and_scale_of_a_mesh_are_read():
    urdf = """<robot name="r"><link name="l"><visual>
        <origin xyz="1 2 3" rpy="0 0 1.5707963267948966"/>
        <geometry><mesh filename="m.stl" scale="0.1 0.2 0.3"/></geometry>
        </visual></link></robot>"""
    (visual,) = read_visuals(urdf)
    expected = [[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]]
    np.testing.assert_allclose(visual.T_link_from_mesh, expected, atol=1e-12)
    assert (visual.mesh, visual.scale) == ('m.stl', (0.1, 0.2, 0.3))


@pytest.mark.parametrize('urdf', ['no xml', '<robot name="r"><link name="l"/></robot>'])
def test_a_description_without_meshes_is_refused(urdf):
    with pytest.raises(DescriptionError):
        read_visuals(urdf)


def test_ghosts_stand_where_the_plan_goes(description, robot):
    visuals = read_visuals(description)
    rng = np.random.default_rng(0)
    waypoints = HOME + rng.uniform(-0.2, 0.2, (2, 23))
    header = Header(frame_id='base')
    markers = plan_markers(robot, visuals, HOME, waypoints, header).markers
    assert markers[0].action == Marker.DELETEALL
    ghosts = [marker for marker in markers if marker.ns == 'ghost']
    assert len(ghosts) == 2 * len(visuals)
    for number, ghost in enumerate(ghosts):
        waypoint, visual = waypoints[number // len(visuals)], visuals[number % len(visuals)]
        expected = robot.frame_pose(waypoint, visual.link) @ visual.T_link_from_mesh
        np.testing.assert_allclose(transform(ghost.pose), expected, atol=1e-9)
        assert ghost.mesh_resource == visual.mesh and ghost.header == header
    assert ghosts[0].color.a < ghosts[-1].color.a
    assert len({(marker.ns, marker.id) for marker in markers}) == len(markers)


def test_keypoints_and_path_are_the_hand_s(description, robot):
    waypoints = np.stack([HOME, HOME + 0.1])
    unknown = np.array([])
    for start, length in ((HOME - 0.1, 3), (unknown, 2), (np.full(23, np.nan), 2)):
        markers = plan_markers(robot, read_visuals(description), start, waypoints, Header())
        spheres, line = markers.markers[-2:]
        points = np.array([[point.x, point.y, point.z] for point in spheres.points])
        np.testing.assert_allclose(points, robot.keypoints(waypoints[-1]))
        assert (spheres.ns, line.ns, len(line.points)) == ('keypoints', 'path', length)
    alone = plan_markers(robot, read_visuals(description), unknown, waypoints[:1], Header())
    assert [marker.ns for marker in alone.markers].count('path') == 0


class Shown:
    """The node, beside one that publishes plans and keeps what is shown last."""

    def __init__(self, domain_id):
        self.context = rclpy.Context()
        self.context.init(domain_id=domain_id)
        self.shows = PlanMarkersNode(context=self.context)
        self.says = Node('says', context=self.context)
        latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        self.publishers = {
            topic: self.says.create_publisher(Plan, topic, latched)
            for topic in (PLAN_TOPIC, WAITING_TOPIC)
        }
        self.markers = None
        self.says.create_subscription(MarkerArray, TOPIC, self.keep, latched)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.shows)
        self.executor.add_node(self.says)

    def keep(self, message):
        self.markers = message.markers

    def after(self, topic, waypoints):
        """Has a plan published; positions (n, 3) of the palms of the ghosts shown then, m."""
        plan = Plan(joint_names=list(JOINTS))
        plan.waypoints = [JointTrajectoryPoint(positions=q.tolist()) for q in waypoints]
        self.markers = None
        self.publishers[topic].publish(plan)
        deadline = time.monotonic() + 30.0
        while self.markers is None:
            assert time.monotonic() < deadline, 'nothing was shown'
            self.executor.spin_once(timeout_sec=0.1)
        ghosts = [m for m in self.markers if m.ns == 'ghost' and m.mesh_resource == self.palm]
        return np.array([transform(ghost.pose)[:3, 3] for ghost in ghosts])

    def close(self):
        for node in (self.shows, self.says):
            node.destroy_node()
        self.context.try_shutdown()


@pytest.fixture
def shown(description):
    with DomainLease() as lease:
        shown = Shown(lease.domain_id)
        (shown.palm,) = (v.mesh for v in read_visuals(description) if v.link == 'palm_link')
        yield shown
        shown.close()


def test_the_plan_that_waits_for_a_person_is_shown_and_else_the_last_one(
    shown, description, robot
):
    (palm,) = (visual for visual in read_visuals(description) if visual.link == 'palm_link')

    def positions(waypoints):
        poses = [robot.frame_pose(q, 'palm_link') @ palm.T_link_from_mesh for q in waypoints]
        return [pose[:3, 3] for pose in poses]

    planned = HOME + np.array([[0.1], [0.2], [0.3]]) * np.eye(23)[0]
    np.testing.assert_allclose(shown.after(PLAN_TOPIC, planned), positions(planned), atol=1e-9)
    # Of three waypoints one is to be executed.
    waiting = planned[:1]
    np.testing.assert_allclose(shown.after(WAITING_TOPIC, waiting), positions(waiting), atol=1e-9)
    # Another plan is made; what a person is asked about stays.
    again = planned[1:]
    np.testing.assert_allclose(shown.after(PLAN_TOPIC, again), positions(waiting), atol=1e-9)
    np.testing.assert_allclose(shown.after(WAITING_TOPIC, []), positions(again), atol=1e-9)
    assert shown.after(PLAN_TOPIC, []).size == 0
