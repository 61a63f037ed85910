"""What of a run is recorded and where, and the names under which it is played."""

FOLDER = 'bag'
"""Name of the recording in the directory of a run."""

CAMERA_TOPICS = ('/camera/color/image_raw', '/camera/color/camera_info')
TOPICS = (
    *CAMERA_TOPICS,
    '/joint_states',
    '/tf',
    '/tf_static',
    '/clock',
    '/robot_description',
    '/diagnostics',
    '/rosout',
    *(
        f'/planner/{name}'
        for name in ('setup', 'goal', 'observed', 'plan', 'overlay', 'predicted')
    ),
    '/planner/plan_to_goal/_action/feedback',
    '/trajectory/execute_plan/_action/feedback',
    '/trajectory/state',
    '/trajectory/waiting_plan',
    '/fr3_arm_controller/joint_trajectory',
    '/allegro_hand_controller/joint_trajectory',
)
"""What the node `recorder` records unless its parameter `topics` says otherwise."""

PREFIX = '/replay'
"""Names of what is played begin with it."""

PLANNER = 'replay_planner'
"""Name of the planner that hears what is played."""

EXECUTE = '/trajectory/execute_plan'
"""The trajectory node's action, which no replay may reach."""
