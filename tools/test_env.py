"""What env.sh and setup.sh do beside a ROS of the system's packages, here a stand-in for one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# The Python that .venv was made from, which sees nothing that is installed in it.
SYSTEM_PYTHON = Path(sys.base_prefix) / 'bin/python3'


def write_program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def ros(tmp_path):
    """Prefix of a ROS whose `ros2` imports what our launch files do and says what runs it."""
    prefix = tmp_path / 'ros'
    module = prefix / 'lib/python/site-packages/ros2cli/cli.py'
    module.parent.mkdir(parents=True)
    module.write_text(
        'import sys\n'
        'def main():\n'
        '    import cv2, scipy, xacro, dexwm_planner.graph.graphs\n'
        '    print(sys.prefix, *sys.argv[1:])\n'
        '    return 3\n'
    )
    write_program(
        prefix / 'bin/ros2',
        f'#!{SYSTEM_PYTHON}\nimport sys\nfrom ros2cli.cli import main\nsys.exit(main())\n',
    )
    return prefix


def bash(command, *, ros, root=ROOT):
    environment = {
        'HOME': os.environ['HOME'],
        'ROS_DISTRO': 'jazzy',
        'PATH': f'{ros}/bin:/usr/bin:/bin',
        'PYTHONPATH': f'{ros}/lib/python/site-packages',
    }
    return subprocess.run(
        ['bash', '-euc', command], cwd=root, env=environment, capture_output=True, text=True
    )


def test_ros2_imports_what_is_installed_in_the_virtual_environment(ros):
    # Ours are on PYTHONPATH then, what they need is not.
    alone = bash(f'. tools/env.sh; {ros}/bin/ros2', ros=ros)
    assert 'ModuleNotFoundError' in alone.stderr
    # Sourced again, it is the same.
    ended = bash('. tools/env.sh; . tools/env.sh; ros2 launch "a b"', ros=ros)
    assert (ended.returncode, ended.stderr) == (3, '')
    assert ended.stdout.split() == [sys.prefix, 'launch', 'a', 'b']


def test_other_programs_of_the_system_do_not_see_what_is_installed_there(ros):
    code = 'import importlib.util as u; print(u.find_spec("ruckig"))'
    ended = bash(f". tools/env.sh; {SYSTEM_PYTHON} -c '{code}'", ros=ros)
    assert ended.stdout == 'None\n', ended.stderr


def test_another_version_of_python_is_refused(ros, tmp_path):
    other = tmp_path / 'python3.99'
    write_program(other, '#!/bin/sh\necho 3.99\n')
    write_program(ros / 'bin/ros2', f'#!{other}\n')
    ended = bash('. tools/env.sh; echo active', ros=ros)
    assert (ended.returncode, ended.stdout) == (1, '')
    assert f'another version of Python than {other}' in ended.stderr
    assert f'make clean && make setup PYTHON="{other}"' in ended.stderr


def test_a_colcon_of_the_system_makes_nodes_of_the_virtual_environment(ros, tmp_path):
    """Nodes are run by the Python that runs colcon, as sys.executable is written into them."""
    root = tmp_path / 'checkout'
    shutil.copytree(ROOT / 'tools', root / 'tools')
    (root / 'ros2_ws/install').mkdir(parents=True)
    subprocess.run([SYSTEM_PYTHON, '-m', 'venv', '--without-pip', root / '.venv'], check=True)
    write_program(
        ros / 'bin/colcon',
        f'#!{SYSTEM_PYTHON}\nimport sys\nopen("python", "w").write(sys.executable)\n',
    )
    ended = bash('tools/setup.sh workspace', ros=ros, root=root)
    assert ended.returncode == 0, ended.stderr
    assert (root / 'ros2_ws/python').read_text() == str(root / '.venv/bin/python')
