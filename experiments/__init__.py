"""Long runs, each one script that leaves afm_ref/assets/recorded/<name>.json. Resumable: call it again."""
