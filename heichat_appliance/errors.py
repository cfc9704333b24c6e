"""The errors that people and clients see: one class, the protocol's form.

Source: client-server API, "Standard error response".
"""

from __future__ import annotations


class MatrixError(Exception):
    """An answer other than success, raised anywhere below a handler and turned into its JSON body by the dispatcher.

    `status` is the HTTP status, `errcode` the Matrix error code, `message` a sentence that names what is wrong,
    `extra` further keys of the body (e.g. `retry_after_ms`, `consent_uri`, `soft_logout`), `headers` further HTTP headers.
    """

    def __init__(
        self, status: int, errcode: str, message: str, *, headers: dict[str, str] | None = None, **extra: object
    ) -> None:
        super().__init__(message)
        self.status = status
        self.errcode = errcode
        self.message = message
        self.headers = headers or {}
        self.extra = extra

    def body(self) -> dict[str, object]:
        """The JSON object of the answer."""
        return {"errcode": self.errcode, "error": self.message, **self.extra}


def bad_json(message: str) -> MatrixError:
    """400 `M_BAD_JSON`: the body is JSON, but a field has a wrong type or value; `message` names the field."""
    return MatrixError(400, "M_BAD_JSON", message)


def invalid_param(message: str) -> MatrixError:
    """400 `M_INVALID_PARAM`: a path or query parameter or a field has an impossible value; `message` names it."""
    return MatrixError(400, "M_INVALID_PARAM", message)


def missing_param(message: str) -> MatrixError:
    """400 `M_MISSING_PARAM`: a required field or parameter is absent; `message` names it."""
    return MatrixError(400, "M_MISSING_PARAM", message)


def forbidden(message: str) -> MatrixError:
    """403 `M_FORBIDDEN`."""
    return MatrixError(403, "M_FORBIDDEN", message)


def not_found(message: str) -> MatrixError:
    """404 `M_NOT_FOUND`."""
    return MatrixError(404, "M_NOT_FOUND", message)


def limit_exceeded(retry_after_ms: int) -> MatrixError:
    """429 `M_LIMIT_EXCEEDED` with the time after which a new try makes sense, in the body and in `Retry-After`."""
    seconds = max(1, -(-retry_after_ms // 1000))
    return MatrixError(
        429,
        "M_LIMIT_EXCEEDED",
        f"Too many requests, try again in {seconds} s. / Zu viele Anfragen, bitte in {seconds} s erneut versuchen.",
        headers={"Retry-After": str(seconds)},
        retry_after_ms=max(1, retry_after_ms),
    )


def storage_failed() -> MatrixError:
    """503: a commit failed (e.g. the disk is full); nothing of the request was stored."""
    return MatrixError(
        503,
        "M_UNKNOWN",
        "The server could not store this; nothing was saved. Please try again later. / "
        "Der Server konnte dies nicht speichern; es wurde nichts gesichert. Bitte später erneut versuchen.",
    )
