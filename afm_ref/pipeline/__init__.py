"""End to end: the bench that post-training is measured on, the committee on it, and all steps as one run."""
