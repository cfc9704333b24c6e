"""The way to the running daemon: its Unix socket in the data folder."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any

from heichat_appliance.admin.language import t

SOCKET = "admin.sock"
SECONDS = 60.0


class NotRunning(Exception):
    """No daemon uses the data folder, or it can't be reached; the text says which."""


class Refused(Exception):
    """The daemon answered with an error: `status`, `errcode` and its sentence."""

    def __init__(self, status: int, errcode: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.errcode = errcode


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class DaemonClient:
    """Asks the daemon. Each method raises NotRunning or Refused."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / SOCKET

    def get(self, path: str, *, seconds: float = SECONDS) -> Any:
        """The answer to a question."""
        return self.request("GET", path, None, seconds)

    def post(self, path: str, body: dict[str, Any] | None = None, *, seconds: float = SECONDS) -> Any:
        """Have something done; the answer."""
        return self.request("POST", path, body or {}, seconds)

    def request(self, method: str, path: str, body: Any, seconds: float) -> Any:
        """The JSON of the answer."""
        connection = _Connection(self._path, seconds)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            answer = json.loads(response.read() or b"{}")
        except (FileNotFoundError, ConnectionRefusedError):
            raise NotRunning(
                t(
                    f"the daemon does not run (nobody answers at {self._path}; hint: systemctl start heichat)",
                    f"der Dienst läuft nicht (an {self._path} antwortet niemand; Hinweis: systemctl start heichat)",
                )
            ) from None
        except PermissionError:
            raise NotRunning(
                t(
                    f"{self._path} may not be used by you (hint: run this as root or as the daemon's user)",
                    f"{self._path} dürfen Sie nicht benutzen (Hinweis: als root oder als Benutzer des Dienstes aufrufen)",
                )
            ) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NotRunning(
                t(
                    f"the daemon does not answer at {self._path}: {error or type(error).__name__}",
                    f"der Dienst antwortet an {self._path} nicht: {error or type(error).__name__}",
                )
            ) from None
        finally:
            connection.close()
        if response.status != 200:
            raise Refused(response.status, str(answer.get("errcode")), str(answer.get("error")))
        return answer
