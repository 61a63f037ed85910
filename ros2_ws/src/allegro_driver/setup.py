from setuptools import find_packages, setup

NAME = 'allegro_driver'

setup(
    name=NAME,
    version='0.1.0',
    description='Allegro hand V4 on a CAN bus: protocol, driver, node, simulated hand.',
    license='Apache-2.0',
    maintainer='DexWM for ROS 2 maintainers',
    maintainer_email='dexwm@example.org',
    packages=find_packages(exclude=['test']),
    package_data={NAME: ['py.typed']},
    data_files=[
        ('share/ament_index/resource_index/packages', ['resource/' + NAME]),
        ('share/' + NAME, ['package.xml']),
    ],
    install_requires=['setuptools'],
    python_requires='>=3.11',
    zip_safe=True,
    entry_points={
        'console_scripts': [
            'hand = allegro_driver.node:main',
        ],
    },
)
