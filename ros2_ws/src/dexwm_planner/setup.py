from glob import glob

from setuptools import find_packages, setup

NAME = 'dexwm_planner'

setup(
    name=NAME,
    version='0.1.0',
    description='Camera, planner and trajectory nodes of DexWM, and their launch files.',
    license='Apache-2.0',
    maintainer='DexWM for ROS 2 maintainers',
    maintainer_email='dexwm@example.org',
    packages=find_packages(exclude=['test']),
    package_data={NAME: ['py.typed']},
    data_files=[
        ('share/ament_index/resource_index/packages', ['resource/' + NAME]),
        ('share/' + NAME, ['package.xml']),
        ('share/' + NAME + '/launch', sorted(glob('launch/*.launch.py'))),
        ('share/' + NAME + '/config', sorted(glob('config/*.yaml'))),
    ],
    install_requires=['setuptools'],
    python_requires='>=3.11',
    zip_safe=True,
    entry_points={
        'console_scripts': [
            'calibrate = dexwm_planner.camera.calibrate_node:main',
            'camera = dexwm_planner.camera.camera_node:main',
            'confirm = dexwm_planner.trajectory.confirm_node:main',
            'overlay = dexwm_planner.camera.overlay_node:main',
            'plan_markers = dexwm_planner.planner.plan_markers_node:main',
            'planner = dexwm_planner.planner.planner_node:main',
            'player = dexwm_planner.bag.bag_player_node:main',
            'recorder = dexwm_planner.bag.recorder_node:main',
            'trajectory = dexwm_planner.trajectory.trajectory_node:main',
        ],
    },
)
