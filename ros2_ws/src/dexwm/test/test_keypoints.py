import numpy as np

from dexwm.robot.joints import HOME
from dexwm.robot.keypoints import KEYPOINT_FRAMES, KEYPOINTS


def test_order_is_manos():
    assert len(KEYPOINTS) == 21
    assert KEYPOINTS[0] == 'wrist'
    assert [name.split('_')[0] for name in KEYPOINTS[1::4]] == [
        'thumb',
        'index',
        'middle',
        'ring',
        'little',
    ]
    assert all(name.endswith('_tip') for name in KEYPOINTS[4::4])


def test_ring_stands_in_for_little(model):
    points = model.keypoints(HOME)
    np.testing.assert_array_equal(points[17:21], points[13:17])
    assert len(set(KEYPOINT_FRAMES.values())) == 17


def test_points_are_as_far_apart_as_the_bones_are_long(model):
    points = model.keypoints(HOME)
    bones = np.linalg.norm(np.diff(points[1:].reshape(5, 4, 3), axis=1), axis=-1)
    np.testing.assert_allclose(bones[0], [0.0177, 0.0514, 0.0423])
    np.testing.assert_allclose(bones[1:], np.tile([0.054, 0.0384, 0.0267], (4, 1)))


def test_wrist_is_where_the_hand_is_bolted_on(model):
    flange = model.frame_pose(HOME, 'fr3_link8')
    wrist = np.linalg.inv(flange) @ np.r_[model.keypoints(HOME)[0], 1.0]
    np.testing.assert_allclose(wrist[:3], [0, 0, 0.012], atol=1e-12)


def test_tip_moves_with_the_last_joint_but_the_joint_does_not(model):
    q = HOME.copy()
    q[10] += 0.3
    moved = np.abs(model.keypoints(q) - model.keypoints(HOME)).max(axis=-1) > 1e-6
    assert [name for name, m in zip(KEYPOINTS, moved, strict=True) if m] == ['index_tip']


def test_right_hand_with_its_palm_down(model):
    """At rest the fingers point forward, the index finger is on the left, the thumb below."""
    points = dict(zip(KEYPOINTS, model.keypoints(HOME), strict=True))
    forward = points['middle_mcp'] - points['wrist']
    assert forward[0] > 0.05
    assert points['index_mcp'][1] > points['ring_mcp'][1]
    palm = np.cross(points['ring_mcp'] - points['wrist'], points['index_mcp'] - points['wrist'])
    assert (points['thumb_tip'] - points['wrist']) @ palm < 0.0
