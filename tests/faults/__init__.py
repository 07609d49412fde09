"""Real failures between real processes: what viewers and publishers must survive."""
