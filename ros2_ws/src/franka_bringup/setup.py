from glob import glob

from setuptools import find_packages, setup

NAME = 'dexwm_franka_bringup'

setup(
    name=NAME,
    version='0.1.0',
    description='FR3, Allegro hand and head camera: description, cell and FCI node.',
    license='Apache-2.0',
    maintainer='DexWM for ROS 2 maintainers',
    maintainer_email='dexwm@example.org',
    packages=find_packages(exclude=['test']),
    package_data={NAME: ['py.typed']},
    data_files=[
        ('share/ament_index/resource_index/packages', ['resource/' + NAME]),
        ('share/' + NAME, ['package.xml']),
        ('share/' + NAME + '/config', sorted(glob('config/*.yaml'))),
        ('share/' + NAME + '/launch', sorted(glob('launch/*.launch.py'))),
        ('share/' + NAME + '/urdf', sorted(glob('urdf/*'))),
    ],
    install_requires=['setuptools'],
    python_requires='>=3.11',
    zip_safe=True,
    entry_points={
        'console_scripts': [
            'configure_arm = dexwm_franka_bringup.configure_arm:main',
            'fci = dexwm_franka_bringup.fci_node:main',
        ],
    },
)
