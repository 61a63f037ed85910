from glob import glob

from setuptools import find_packages, setup

NAME = 'dexwm_sim'

setup(
    name=NAME,
    version='0.1.0',
    description='Simulated cell of DexWM: FR3 arm, Allegro hand and kitchen counter in MuJoCo.',
    license='Apache-2.0',
    maintainer='DexWM for ROS 2 maintainers',
    maintainer_email='dexwm@example.org',
    packages=find_packages(exclude=['test']),
    package_data={NAME: ['py.typed']},
    data_files=[
        ('share/ament_index/resource_index/packages', ['resource/' + NAME]),
        ('share/' + NAME, ['package.xml']),
        ('share/' + NAME + '/config', sorted(glob('config/*.yaml'))),
    ],
    install_requires=['setuptools'],
    python_requires='>=3.11',
    zip_safe=True,
    entry_points={
        'console_scripts': [
            'cell = dexwm_sim.cell_node:main',
            'pick = dexwm_sim.pick_node:main',
            'task = dexwm_sim.task_node:main',
        ],
    },
)
