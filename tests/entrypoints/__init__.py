"""Tests of the synchronous facade and the other entry points."""
