"""End to end: the bench of post-training, the committee on it, and all steps as one run."""
