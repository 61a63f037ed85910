"""The panel's widgets: built with Qt, and their own tests, offscreen."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent
# Versions of Qt that must be there, such as "5 6"; others are skipped where they are missing.
REQUIRED = os.environ.get('DEXWM_REQUIRE_QT', '').split()
# The panel knows no ROS, and is built here as if there were none.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if name not in ('AMENT_PREFIX_PATH', 'CMAKE_PREFIX_PATH', 'COLCON_PREFIX_PATH')
} | {'QT_QPA_PLATFORM': 'offscreen'}


def run(*command, timeout=250):
    done = subprocess.run(
        command,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    return done.stdout


@pytest.fixture(scope='module', params=[5, 6])
def built(request, tmp_path_factory):
    """Folder of a build with Qt 5 or 6."""
    folder = tmp_path_factory.mktemp(f'qt{request.param}')
    source = folder / 'probe'
    source.mkdir()
    (source / 'CMakeLists.txt').write_text(
        'cmake_minimum_required(VERSION 3.20)\nproject(probe LANGUAGES CXX)\n'
        f'find_package(Qt{request.param} REQUIRED COMPONENTS Widgets Test)\n'
    )
    looked = subprocess.run(
        [shutil.which('cmake'), '-S', source, '-B', source / 'build'],
        env=ENVIRONMENT,
        capture_output=True,
    )
    if looked.returncode != 0:
        reason = (
            f'Qt {request.param} for developers is missing (Debian: qtbase5-dev, qt6-base-dev)'
        )
        if str(request.param) in REQUIRED:
            pytest.fail(reason)
        pytest.skip(reason)
    output = run(
        'cmake',
        *('-S', PACKAGE, '-B', folder / 'build'),
        f'-DDEXWM_QT={request.param}',
        '-DDEXWM_BUILD_TESTS=ON',
        '-DCMAKE_CXX_FLAGS=-Werror',
    )
    assert "the panel's widgets only" in output
    run('cmake', '--build', folder / 'build')
    return folder / 'build'


@pytest.mark.timeout(600)
def test_the_panel_s_own_tests_pass(built):
    output = run('ctest', '--test-dir', built, '--output-on-failure', '--verbose')
    assert re.search(r'Totals: \d\d passed, 0 failed, 0 skipped', output), output[-3000:]


def test_without_qt_the_package_is_still_configured(tmp_path):
    output = run(
        'cmake',
        *('-S', PACKAGE, '-B', tmp_path),
        '-DCMAKE_DISABLE_FIND_PACKAGE_QT=ON',
    )
    assert "no panel, for Qt's Widgets are not here" in output
    run('cmake', '--build', tmp_path)
