"""What each chapter draws: its figures and its controls, one module a chapter."""
