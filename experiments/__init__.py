"""Long runs, each one script that leaves recorded/<name>.json. Resumable: call it again after an interruption."""
