"""Recorded runs: reading and writing bags, planning again from them, and a report."""
