"""What of the nodes' logs is shown on the terminal."""

import io

import pytest

from dexwm_planner.graph.terminal import LogEcho, Terminal

LOG = """\
a library prints
[INFO] [1.5] [camera]: 10 Hz
a library prints again
[WARN] [1.6] [rcl]: careful:
  - of this
[DEBUG] [1.7] [camera]: a detail
"""


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def log(tmp_path):
    path = tmp_path / 'camera.log'
    path.touch()
    return path


def test_lines_of_the_node_and_what_belongs_to_warnings_are_shown(log):
    output = io.StringIO()
    echo = LogEcho('camera', log, Terminal(output), talkative=False)
    log.write_text(LOG)
    echo.close()
    assert [line.split(' | ')[1] for line in output.getvalue().splitlines()] == [
        '10 Hz',
        'WARN rcl: careful:',
        '  - of this',
        'a detail',
    ]
    assert all(line.startswith('    camera | ') for line in output.getvalue().splitlines())


def test_everything_of_a_talkative_node_is_shown(log):
    output = io.StringIO()
    echo = LogEcho('camera', log, Terminal(output), talkative=True)
    log.write_text(LOG)
    echo.close()
    assert len(output.getvalue().splitlines()) == len(LOG.splitlines())


def test_a_line_is_shown_when_it_is_complete(log):
    output = io.StringIO()
    echo = LogEcho('camera', log, Terminal(output), talkative=True)
    with log.open('w') as file:
        print('one\ntw', end='', file=file, flush=True)
        echo.pump()
        assert output.getvalue() == '    camera | one\n'
        print('o\nthree', end='', file=file, flush=True)
        echo.pump()
    echo.close()
    assert output.getvalue() == '    camera | one\n    camera | two\n    camera | three\n'


def test_bytes_that_are_no_text_do_no_harm(log):
    output = io.StringIO()
    echo = LogEcho('camera', log, Terminal(output), talkative=True)
    log.write_bytes(b'\xff\x00 and text\n')
    echo.close()
    assert output.getvalue().endswith(' and text\n')


def test_colours_are_for_people(monkeypatch):
    monkeypatch.delenv('NO_COLOR', raising=False)
    screen, file = Screen(), io.StringIO()
    Terminal(screen).say('cell', 'slow', 'WARN')
    Terminal(file).say('cell', 'slow', 'WARN')
    assert screen.getvalue().count('\x1b[') == 4
    assert file.getvalue() == '      cell | WARN slow\n'
    monkeypatch.setenv('NO_COLOR', '1')
    plain = Screen()
    Terminal(plain).say('cell', 'slow', 'WARN')
    assert plain.getvalue() == file.getvalue()
