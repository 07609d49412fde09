"""The contract kit itself: what it notices, what it leaves out, its fixtures, its pages and its example."""
