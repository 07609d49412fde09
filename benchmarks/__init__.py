"""stagecast beside its peers, on one machine in one run: `make bench` writes docs/performance.md (ADR 0017)."""
