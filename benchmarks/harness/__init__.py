"""What all benchmarks share: topics, traffic, a watched worker, answers, results."""
