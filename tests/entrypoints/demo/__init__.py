"""Tests of the demo without a browser."""
