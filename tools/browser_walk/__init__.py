"""A reader's session: notebooks in a real JupyterLab in a real Chromium (python -m tools.browser_walk --help)."""
