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
            'calibrate = dexwm_planner.calibrate_node:main',
            'camera = dexwm_planner.camera_node:main',
            'confirm = dexwm_planner.confirm_node:main',
            'overlay = dexwm_planner.overlay_node:main',
            'plan_markers = dexwm_planner.plan_markers_node:main',
            'planner = dexwm_planner.planner_node:main',
            'player = dexwm_planner.bag_player_node:main',
            'recorder = dexwm_planner.recorder_node:main',
            'trajectory = dexwm_planner.trajectory_node:main',
        ],
    },
)
