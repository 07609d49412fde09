"""Tests of the domain: no I/O, no bus but the one in memory."""
