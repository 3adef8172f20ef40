"""A JupyterLab of its own: another port, another token, no settings of the user's, nothing saved on disk."""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

SETTINGS = {  # quiet, all cells on the page, and never saved by itself
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/docmanager-extension/plugin": {"autosave": False},
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none", "maxNumberOutputs": 1000},
}
START_S = 90


class Server:
    """JupyterLab of the environment of `python` on a folder of notebooks; what it keeps lies in `scratch`."""

    def __init__(self, python: str, root: Path, scratch: Path, log: Path):
        self.root, self.log = root, log
        self.token = secrets.token_hex(16)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"
        for name, value in SETTINGS.items():
            file = scratch / "settings" / f"{name}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(value))
        with log.open("w") as out:
            self.process = subprocess.Popen(
                self._command(python, scratch),
                env=_environment(python, scratch),
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def _command(self, python, scratch):
        port = self.url.rpartition(":")[2]
        options = {
            "ServerApp.ip": "127.0.0.1",
            "ServerApp.port": port,
            "ServerApp.port_retries": 0,
            "IdentityProvider.token": self.token,
            "ServerApp.root_dir": self.root,
            "FileCheckpoints.checkpoint_dir": scratch / "checkpoints",
            "LabApp.user_settings_dir": scratch / "settings",
            "LabApp.workspaces_dir": scratch / "workspaces",
        }
        command = [python, "-m", "jupyterlab", "--no-browser", "--expose-app-in-browser"]
        command += [f"--{name}={value}" for name, value in options.items()]
        return command + (["--allow-root"] if os.getuid() == 0 else [])

    def __enter__(self):
        end = time.time() + START_S
        while time.time() < end:
            if self.process.poll() is not None:
                raise RuntimeError(f"jupyter lab ended with {self.process.returncode}: see {self.log}")
            with contextlib.suppress(OSError):
                self.api("GET", "status")
                return self
            time.sleep(0.3)
        self.__exit__()
        raise RuntimeError(f"jupyter lab did not answer within {START_S} s: see {self.log}")

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.end_sessions()
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):  # the second one confirms the first
            if self.process.poll() is None:
                self.process.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(8)

    def api(self, method: str, path: str):
        """Return what the server's REST API answers."""
        headers = {"Authorization": f"token {self.token}"}
        request = urllib.request.Request(f"{self.url}/api/{path}", method=method, headers=headers)
        no_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with no_proxy.open(request, timeout=20) as answer:
            body = answer.read()
        return json.loads(body) if body else None

    def end_sessions(self) -> None:
        """Stop every kernel."""
        for session in self.api("GET", "sessions"):
            self.api("DELETE", f"sessions/{session['id']}")


def _environment(python, scratch):
    folder = str(Path(python).absolute().parent)  # `!python` in a notebook finds the same environment
    own = {f"JUPYTER_{name}": str(scratch / name.lower()) for name in ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR")}
    own |= {"IPYTHONDIR": str(scratch / "ipython"), "JUPYTER_PREFER_ENV_PATH": "1"}
    return {**os.environ, **own, "PATH": folder + os.pathsep + os.environ.get("PATH", "")}
