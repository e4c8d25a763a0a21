"""What `benchmarks.peers_data` measures: other data layers and ours, each in a process of its own."""
