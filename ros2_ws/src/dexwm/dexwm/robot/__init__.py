"""The robot: joints and limits, kinematics, hand keypoints, collisions."""
