"""The tests of stagecast; they mirror src/, and servers.py and waiting.py serve them all."""
