"""The contract suite, run against every adapter."""
