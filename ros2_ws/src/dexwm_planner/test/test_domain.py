"""Leases of ROS domains."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from dexwm_planner.graph.domain import DomainLease, NoFreeDomainError

# Not those of runs, which may go on beside the tests.
IDS = range(55, 59)


def test_leases_differ_and_can_be_given_back(tmp_path):
    with DomainLease(tmp_path, IDS) as first, DomainLease(tmp_path, IDS) as second:
        assert first.domain_id != second.domain_id
        assert {first.domain_id, second.domain_id} <= set(IDS)
    with DomainLease(tmp_path, IDS) as third:
        assert third.domain_id == first.domain_id


def test_a_domain_where_a_node_listens_is_not_free(tmp_path):
    with DomainLease(tmp_path, IDS) as lease:
        free = lease.domain_id
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as participant:
        participant.bind(('', 7400 + 250 * free + 10))
        with DomainLease(tmp_path, IDS) as lease:
            assert lease.domain_id != free


def test_a_lease_ends_with_its_process(tmp_path):
    code = (
        'import sys, time; from pathlib import Path;'
        'from dexwm_planner.graph.domain import DomainLease;'
        'lease = DomainLease(Path(sys.argv[1]), [55, 56, 57, 58]);'
        'print(lease.domain_id, flush=True); time.sleep(60)'
    )
    command = [sys.executable, '-c', code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        held = int(holder.stdout.readline())
        with DomainLease(tmp_path, IDS) as lease:
            assert lease.domain_id != held
        os.kill(holder.pid, signal.SIGKILL)
    with DomainLease(tmp_path, IDS) as lease:
        assert lease.domain_id == held


def test_it_is_said_when_all_are_taken(tmp_path):
    leases = []
    with pytest.raises(NoFreeDomainError, match='domain_id:=N'):
        while True:
            leases.append(DomainLease(tmp_path, IDS))
    assert [lease.domain_id for lease in leases] == list(IDS)
    for lease in leases:
        lease.close()
